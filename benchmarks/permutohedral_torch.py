"""The permutohedral lattice (Adams, Baek and Davis, 2010) in PyTorch operators, on any device.

A Gaussian filter over points is a chain of sparse matrices: splat onto the lattice's vertices, one blur along each of
its axes, slice back to the points. They are built by sorting packed vertex keys, so that no sum depends on the order in
which threads arrive.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import CRFError
from pipeline.refine.crf.cuda.packing import MAX_KEY, Packing, scales

MAX_RUN = 128
"""Terms that one thread adds; a longer row is summed in pieces, so that a GPU does not wait for one thread."""

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class SparseMatrix:
    """Hold a sparse matrix in compressed rows, to be multiplied with dense ones.

    Attributes:
        columns: (entries,) int32, row after row.
        offsets: (rows + 1,) int32, where each row begins in `columns`, and the number of entries.
        weights: (entries,) float32; None where every entry is 1.
    """

    columns: Tensor
    offsets: Tensor
    weights: Tensor | None

    def __matmul__(self, dense: Tensor) -> Tensor:
        """Multiply (columns, features) float32 to (rows, features); bit-reproducible on every device.

        On CUDA embedding_bag gives each row and feature one thread, which adds the row's entries in their order: no
        atomics, and no (entries, features) array (PyTorch: aten/src/ATen/native/cuda/EmbeddingBag.cu,
        EmbeddingBag_updateOutputKernel_sum_mean). torch.segment_reduce sums in the same way, but takes that array;
        torch.sparse leaves the order to cuSPARSE, which promises it for some algorithms only; index_add_ is atomic.
        """
        return functional.embedding_bag(
            self.columns, dense, self.offsets, mode="sum", per_sample_weights=self.weights, include_last_offset=True
        )

    def scaled(self, scale: Tensor) -> "SparseMatrix":
        """Multiply entry i by scale[i], (entries,) float32."""
        return dataclasses.replace(self, weights=scale if self.weights is None else self.weights * scale)


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Hold the filter of one set of points.

    Attributes:
        points: how many.
        splat: points to vertices; several matrices where a vertex has more than MAX_RUN entries.
        blurs: vertices to vertices, one for each axis.
        slice: vertices to points.
    """

    points: int
    splat: tuple[SparseMatrix, ...]
    blurs: tuple[SparseMatrix, ...]
    slice: SparseMatrix

    @property
    def vertices(self) -> int:
        """Count the vertices that a point touches."""
        return len(self.blurs[0].offsets) - 2

    def filter(self, values: Tensor) -> Tensor:
        """Filter (points, features) float32 to the same shape, without a host round trip."""
        for matrix in (*self.splat, *self.blurs, self.slice):
            values = matrix @ values
        return values

    def scaled(self, before: Tensor | None, after: Tensor) -> "Lattice":
        """Make the lattice whose filter is after * filter(before * values), scales (points,) float32; None is 1."""
        first = self.splat[0]
        if before is not None:
            first = first.scaled(before[first.columns])
        last = self.slice.scaled(after.repeat_interleave(len(self.slice.columns) // self.points))
        return dataclasses.replace(self, splat=(first, *self.splat[1:]), slice=last)


def build_lattice(features: Tensor, extents: Sequence[float], points: int, pictures: int) -> Lattice:
    """Build the lattice of points with `features`; the host waits for the device twice, and for each sum in pieces.

    The points belong to `pictures` pictures in turn, point i to picture i % pictures; pictures share no vertex, so that
    each is filtered by itself.

    Args:
        features: (d, at least points) float32 in standard deviations, from 0 to the extents. What follows after
            `points` brings its vertices into the lattice, and nothing else.
        extents: d upper bounds of the features, for which none of them is read.
        points: how many points are filtered.
        pictures: how many pictures.

    Raises:
        CRFError: the lattice would be too large for its keys.
    """
    dimensions, total = features.shape
    packing = Packing.of(extents)
    if total * (dimensions + 1) > _INT32_MAX or packing.keys * pictures >= MAX_KEY:
        raise CRFError(f"{points} pixels at once are too many for the CRF's lattice; refine fewer pictures at a time")
    simplices, barycentric = _simplices(packing, features, pictures)
    keys, order = simplices.flatten().sort(stable=True)
    del simplices  # it and its kind are the peak of the memory
    is_first = torch.cat([torch.ones_like(keys[:1], dtype=torch.bool), keys[1:] != keys[:-1]])
    first = is_first.nonzero()[:, 0]  # (vertices,); its size is known to the device alone: the host waits
    vertex = is_first.cumsum(0, dtype=torch.int32) - 1  # of each entry, in the order of the keys
    corner = torch.empty_like(vertex).scatter_(0, order, vertex)  # of each entry, in the order of the points
    weights = barycentric.flatten()
    weights[points * (dimensions + 1) :] = 0
    end = torch.full_like(first[:1], len(keys))
    splat = SparseMatrix(
        columns=(order // (dimensions + 1)).clamp_(max=points - 1).int(),
        # one row more than there are vertices, always empty: what a missing neighbour reads
        offsets=torch.cat([first, end, end]).int(),
        weights=weights[order],
    )
    return Lattice(
        points=points,
        splat=_in_pieces(splat),
        blurs=_blurs(keys[first], packing),
        slice=SparseMatrix(
            columns=corner[: points * (dimensions + 1)],
            offsets=_steps(points, dimensions + 1, features.device),
            weights=weights[: points * (dimensions + 1)] / (1 + 2.0**-dimensions),  # pydensecrf's alpha
        ),
    )


def _enclosing_simplex(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find each point's simplex, by rounding and sorting (Adams et al., pages 5 and 10), in pydensecrf's arithmetic.

    Returns:
        The closest remainder-0 vertex over d + 1 and the rank of each coordinate, (d + 1, points) int64, and the
        weights of the simplex's vertices, (points, d + 1) float32.
    """
    size = len(features) + 1  # d + 1 coordinates
    elevated = torch.empty((size, features.shape[1]), device=features.device)
    total = torch.zeros_like(features[0])
    for axis, scale in reversed(list(enumerate(scales(len(features)), start=1))):
        scaled = features[axis - 1] * scale
        elevated[axis] = total - axis * scaled
        total = total + scaled
    elevated[0] = total
    cell = (elevated * (1 / size)).round()  # half to even
    excess = cell.sum(dim=0)
    rest = elevated - cell * size
    index = torch.arange(size, device=features.device)[:, None]
    rank = excess.expand_as(rest).clone()
    for other in range(size):  # how many coordinates are larger; of equal ones the first has the higher rank
        rank += torch.where(index <= other, rest < rest[other], rest <= rest[other])
    wrap = (rank < 0).float() - (rank >= size).float()
    rank = (rank + wrap * size).long()
    cell += wrap
    rest = (elevated - cell * size) * (1 / size)
    falling = torch.empty_like(rest).scatter_(0, size - 1 - rank, rest)  # sorted, the largest last
    barycentric = torch.cat([falling[:1] + (1 - falling[-1:]), falling[1:] - falling[:-1]])
    return cell.long(), rank, barycentric.T.contiguous()


def _simplices(packing: Packing, features: Tensor, pictures: int) -> tuple[Tensor, Tensor]:
    """Find each point's simplex, by remainder: keys (points, d + 1) int64 of its vertices, and weights, float32."""
    cell, rank, barycentric = _enclosing_simplex(features)
    remainder = torch.arange(len(cell), device=cell.device)
    picture = torch.arange(len(barycentric), device=cell.device) % pictures
    keys = picture[:, None] * packing.keys + remainder * packing.remainder
    for place, cells, ranks in zip(packing.cells, cell, rank, strict=True):
        keys += place * (cells[:, None] - (ranks[:, None] > len(cell) - 1 - remainder).long())
    return keys, barycentric


def _blurs(keys: Tensor, packing: Packing) -> tuple[SparseMatrix, ...]:
    """Build one matrix for each axis: a vertex, and half of either neighbour; `keys` are the sorted vertices."""
    vertices, missing = torch.arange(len(keys), device=keys.device), len(keys)
    offsets = _steps(missing, 3, keys.device)
    offsets = torch.cat([offsets, offsets[-1:]])
    weights = torch.tensor([1.0, 0.5, 0.5], device=keys.device).repeat(missing)
    blurs = []
    for step in packing.steps():
        place = torch.searchsorted(keys, keys + step).clamp_(max=missing - 1)
        upper = torch.where(keys[place] == keys + step, place, missing)
        # who has me above has me below; whatever lands on the place for missing ones is cut off
        lower = torch.full_like(offsets[1:], missing, dtype=torch.int64).scatter_(0, upper, vertices)[:-1]
        columns = torch.stack([vertices, upper, lower], dim=1).flatten().int()
        blurs.append(SparseMatrix(columns=columns, offsets=offsets, weights=weights))
    return tuple(blurs)


def _in_pieces(matrix: SparseMatrix) -> tuple[SparseMatrix, ...]:
    """Split `matrix` into matrices whose product it is, with rows of at most MAX_RUN entries."""
    matrices = [matrix]
    counts = matrix.offsets.diff()
    longest = int(counts.max())
    while longest > MAX_RUN:
        whole = matrices.pop()
        pieces = (counts + MAX_RUN - 1) // MAX_RUN
        offsets = torch.cat([torch.zeros_like(pieces[:1]), pieces.cumsum(0, dtype=torch.int32)])
        total = int(offsets[-1])
        number = torch.arange(total, dtype=torch.int32, device=offsets.device)
        row = torch.arange(len(pieces), device=offsets.device).repeat_interleave(pieces, output_size=total)
        starts = whole.offsets[row] + (number - offsets[row]) * MAX_RUN
        matrices.append(dataclasses.replace(whole, offsets=torch.cat([starts, whole.offsets[-1:]])))
        matrices.append(SparseMatrix(columns=number, offsets=offsets, weights=None))
        counts, longest = pieces, -(-longest // MAX_RUN)
    return tuple(matrices)


def _steps(count: int, step: int, device: torch.device) -> Tensor:
    """List 0, step, ... count * step, (count + 1,) int32."""
    return torch.arange(0, count * step + 1, step, dtype=torch.int32, device=device)
