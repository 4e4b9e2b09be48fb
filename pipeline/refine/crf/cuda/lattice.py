"""The permutohedral lattice (Adams, Baek and Davis, 2010) of a picture's pixels, built on the device by sorting.

A Gaussian filter over pixels is splat (sum each pixel into the vertices around it), one blur along each of the axes,
and slice (interpolate). No sum depends on the order in which threads arrive, and the host waits for nothing: how many
vertices there are is known to the device alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import CRFError
from pipeline.refine.crf.cuda import lattice_kernels, row_kernels
from pipeline.refine.crf.cuda.buffers import Buffers
from pipeline.refine.crf.cuda.launches import PIECE, Launches, lanes
from pipeline.refine.crf.cuda.packing import Packing, scales
from pipeline.refine.crf.cuda.uploads import uploaded

_INT32_MAX = 2**31 - 1
_LEAST_MASS = 1e-30


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Set a pairwise kernel of the CRF.

    Attributes:
        weight: of its messages.
        xy: standard deviation in space, pixels.
        rgb: standard deviation in colour, levels of 0..255; None for a kernel of the positions alone.
        symmetric: normalised on both sides by 1/sqrt(its row sums), or by the row sums after filtering.
    """

    weight: float
    xy: float
    rgb: float | None
    symmetric: bool

    def extents(self, height: int, width: int) -> list[float]:
        """Give the largest features of a picture, in standard deviations."""
        colours = [] if self.rgb is None else [255 / self.rgb] * 3
        return [(width - 1) / self.xy, (height - 1) / self.xy, *colours]


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Hold the filter of a picture's pixels by one kernel, normalised and weighted; tensors on the device.

    Room is for as many vertices as there are entries, a pixel's share in a corner of its simplex.

    Attributes:
        corners: d + 1, of a simplex; the lattice has as many axes.
        vertices: (1,) int32, how many there are.
        vertex: (entries,) int32, of each entry, sorted.
        columns: (entries,) int32, the entry's pixel.
        weights: (entries,) float32, the pixel's share of the vertex' mass.
        offsets: (entries + 1,) int32, where each vertex' entries begin, and end.
        neighbours: (corners, 2, entries) int32, on either side on each axis; -1 where there is none.
        shares: (corners, 2, entries) float32, of these in the vertex' mass once it is blurred.
        corner: (pixels, corners) int32, the vertices around each pixel.
        slices: (pixels, corners) float32, their weights.
    """

    corners: int
    vertices: Tensor
    vertex: Tensor
    columns: Tensor
    weights: Tensor
    offsets: Tensor
    neighbours: Tensor
    shares: Tensor
    corner: Tensor
    slices: Tensor


class LatticeBuilder:
    """Build the lattices of a kernel on one device."""

    def __init__(self, kernel: Kernel, device: torch.device, buffers: Buffers | None = None) -> None:
        """Choose the kernel and the device; with buffers, a lattice lies in them and lasts until the next is built."""
        self._kernel, self._device, self._buffers = kernel, device, buffers
        self._launches = Launches.on(device)

    def build(self, image: Tensor) -> Lattice:
        """Build the lattice of an image (H, W, 3) uint8 on the device.

        Raises:
            CRFError: it would be too large.
        """
        height, width = image.shape[:2]
        extents = self._kernel.extents(height, width)
        packing, pixels = Packing.of(extents), height * width
        # pydensecrf fills up its last four pixels with zeros, and the vertices around these take part in the blurs
        points = pixels + (self._kernel.rgb is not None and pixels % 4 > 0)
        corners = len(extents) + 1
        if points * corners > _INT32_MAX:
            raise CRFError(f"{pixels} pixels at once are too many for the CRF's lattice; refine smaller windows")
        keys, shares = self._located(image, packing, points, torch.int32 if packing.keys < 2**31 else torch.int64)
        lattice = self._linked(*self._numbered(keys, shares, pixels, corners), packing)
        return self._normalised(lattice, shares[:pixels])

    def _located(self, image: Tensor, packing: Packing, points: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        """Find the keys (points, corners) around each point, and the point's shares there, float32."""
        height, width = image.shape[:2]
        dimensions = len(packing.cells) - 1
        keys = self._empty((points, dimensions + 1), kind)
        shares = self._empty((points, dimensions + 1), torch.float32)
        block_lanes = lanes(dimensions + 1)
        lattice_kernels.locate[(self._launches.programs,)](
            image, *image.stride()[:2], image.stride(2), height * width, points, width,
            float(self._kernel.xy), float(self._kernel.rgb or 1),
            uploaded(scales(dimensions), torch.float32, self._device),
            uploaded(packing.cells, torch.int64, self._device),
            uploaded([packing.remainder], torch.int64, self._device),
            keys, shares,
            dimensions=dimensions, lanes=block_lanes, rows=self._launches.rows(block_lanes**2, points),
            enable_fp_fusion=False,
        )  # fmt: skip
        return keys, shares

    def _numbered(self, keys: Tensor, shares: Tensor, pixels: int, corners: int) -> tuple[Lattice, Tensor]:
        """Number the vertices in the order of their keys; gives the lattice so far, and the vertices' keys."""
        keys, order = keys.flatten().sort(stable=True)
        is_first = torch.ones_like(keys, dtype=torch.int32)
        torch.ne(keys[1:], keys[:-1], out=is_first[1:])
        entries = len(keys)
        vertex = torch.cumsum(is_first, 0, dtype=torch.int32, out=self._take("vertex", (entries,), torch.int32)).sub_(1)
        lattice = Lattice(
            corners=corners,
            vertices=self._take("vertices", (1,), torch.int32),
            vertex=vertex,
            columns=self._take("columns", (entries,), torch.int32),
            weights=self._take("weights", (entries,), torch.float32),
            offsets=self._take("offsets", (entries + 1,), torch.int32),
            neighbours=self._take("neighbours", (corners, 2, entries), torch.int32).fill_(-1),
            shares=self._take("shares", (corners, 2, entries), torch.float32),
            corner=self._take("corner", (entries // corners, corners), torch.int32),
            slices=self._take("slices", (pixels, corners), torch.float32),
        )
        vertex_keys = torch.empty_like(keys)
        lattice_kernels.number[(self._launches.programs,)](
            keys, order, vertex, shares, entries, pixels,
            lattice.offsets, vertex_keys, lattice.columns, lattice.weights, lattice.corner, lattice.vertices,
            corners=corners, rows=self._launches.rows(1, entries),
        )  # fmt: skip
        return lattice, vertex_keys

    def _linked(self, lattice: Lattice, vertex_keys: Tensor, packing: Packing) -> Lattice:
        """Find the neighbours."""
        lattice_kernels.link[(self._launches.programs,)](
            vertex_keys, lattice.vertices, uploaded(packing.steps(), torch.int64, self._device), lattice.neighbours,
            len(vertex_keys), corners=lattice.corners, rows=self._launches.rows(1, len(vertex_keys)),
        )  # fmt: skip
        return lattice

    def _normalised(self, lattice: Lattice, shares: Tensor) -> Lattice:
        """Weigh the kernel, divide out its row sums, and work out the vertices' masses on the way.

        Args:
            lattice: its weights are the pixels' shares in the corners; its slices are not there yet.
            shares: the same by pixel, (pixels, corners).
        """
        kernel, corners = self._kernel, lattice.corners
        alpha = 1 / (1 + 2.0 ** (1 - corners))  # pydensecrf's, of the blurs
        if kernel.symmetric:
            _, blurred = self._masses(lattice)
            scale = (alpha * self._slice_masses(blurred, lattice, shares) + 1e-20).rsqrt_()
            lattice.weights.mul_(scale.index_select(0, lattice.columns))
        splatted, blurred = self._masses(lattice)
        if kernel.symmetric:
            after = alpha * kernel.weight * scale
        else:
            after = alpha * kernel.weight / (alpha * self._slice_masses(blurred, lattice, shares) + 1e-20)
        lattice.weights.div_(splatted.index_select(0, lattice.vertex).clamp_(min=_LEAST_MASS))
        corner = lattice.corner.view(-1)[: shares.numel()]
        masses = blurred.index_select(0, corner).view_as(shares)
        # a row's unit is a fraction of 65535
        torch.mul(shares * masses, after[:, None] / 65535, out=lattice.slices)
        return lattice

    def _masses(self, lattice: Lattice) -> tuple[Tensor, Tensor]:
        """Filter ones down to the vertices: their masses, float32, as they are summed, and blurred on every axis."""
        ones = torch.ones_like(lattice.columns, dtype=torch.float32)
        pieces = self._empty((pieces_of(lattice), 1), torch.float32)
        splatted = splat(lattice, ones, pieces, torch.empty_like(ones), 1, self._launches)
        blurred = splatted
        for axis in range(lattice.corners):
            masses, blurred = blurred, torch.empty_like(ones)
            row_kernels.blur_masses[(self._launches.programs,)](
                masses, lattice.neighbours, lattice.vertices, len(ones), axis, blurred, lattice.shares,
                rows=self._launches.rows(1, len(ones)),
            )  # fmt: skip
        return splatted, blurred

    def _slice_masses(self, masses: Tensor, lattice: Lattice, shares: Tensor) -> Tensor:
        pixels, corners = shares.shape
        sums = self._empty((pixels,), torch.float32)
        row_kernels.slice_masses[(self._launches.programs,)](
            masses, lattice.corner, shares, pixels, sums, corners=corners, rows=self._launches.rows(1, pixels)
        )
        return sums

    def _take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Give room for a part of the lattice."""
        return self._buffers.take(name, shape, dtype) if self._buffers else self._empty(shape, dtype)

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self._device)


def pieces_of(lattice: Lattice) -> int:
    """Count the pieces for whose sums `splat` needs room."""
    return len(lattice.columns) // PIECE + 1


def splat(lattice: Lattice, values: Tensor, pieces: Tensor, out: Tensor, width: int, launches: Launches) -> Tensor:
    """Sum rows of pixels, (pixels, width), into rows of vertices, `out`, and give these; `pieces` is room for sums."""
    entries, block_lanes = len(lattice.columns), lanes(width)
    shape = {
        "piece": PIECE, "batch": launches.batch, "width": width, "lanes": block_lanes,
        "rows": launches.rows(launches.batch * block_lanes, entries),
    }  # fmt: skip
    grid = (launches.programs,)
    row_kernels.sum_pieces[grid](values, lattice.vertex, lattice.columns, lattice.weights, entries, pieces, **shape)
    row_kernels.splat[grid](
        values, lattice.columns, lattice.weights, lattice.offsets, lattice.vertices, pieces, out, **shape
    )
    return out


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Hold the rows of a lattice's vertices, of `width` labels with the padding, while a kernel is applied.

    Attributes:
        width: elements in a row.
        rooms: two of (entries, width) uint16.
        pieces: (pieces_of(lattice), width) float32.
    """

    width: int
    rooms: tuple[Tensor, Tensor]
    pieces: Tensor

    def blurred(self, lattice: Lattice) -> Tensor:
        """Give that room where the rows are once they are blurred."""
        return self.rooms[lattice.corners % 2]


def blur(lattice: Lattice, values: Tensor, rows: Rows, launches: Launches) -> None:
    """Splat rows of pixels, (pixels, width) uint16, and blur them along every axis."""
    splat(lattice, values, rows.pieces, rows.rooms[0], rows.width, launches)
    block_lanes = lanes(rows.width)
    for axis in range(lattice.corners):
        before, after = rows.rooms[axis % 2], rows.rooms[(axis + 1) % 2]
        row_kernels.blur[(launches.programs,)](
            before, lattice.neighbours, lattice.shares, lattice.vertices, len(lattice.columns), axis, after,
            width=rows.width, lanes=block_lanes, rows=launches.rows(block_lanes, len(lattice.columns)),
        )  # fmt: skip
