"""The mean field of one window of a picture on the device: what its logits hold, its lattices, its iterations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.refine.crf.cuda import label_kernels
from pipeline.refine.crf.cuda.buffers import Buffers
from pipeline.refine.crf.cuda.graphs import Graphs
from pipeline.refine.crf.cuda.lattice import Kernel, Lattice, LatticeBuilder, Rows, blur, pieces_of
from pipeline.refine.crf.cuda.launches import Launches, lanes
from pipeline.refine.crf.cuda.smoothness import Smoothness
from pipeline.refine.crf.cuda.uploads import uploaded
from pipeline.refine.crf.cuda.window import Window
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.crf.reference import PROBABILITY_FLOOR

WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Elements in a row, of which one more than the labels are padding: kernels are compiled for each width, not number."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Count what a window's core was labelled as; tensors on the device.

    Attributes:
        pixels: (C,) int64, pixels won by each label.
        posterior: (C,) float64, sum of a label's posterior over the pixels it won.
    """

    pixels: Tensor
    posterior: Tensor


class MeanField:
    """Compute the fully connected CRF with Gaussian edge potentials (arXiv 1210.5644) on a CUDA device.

    For each window `survey`, `build` and `iterate`, in this order. The same input gives the same bits on one device.
    On device "cpu" Triton's interpreter runs the kernels, where TRITON_INTERPRET was 1 before triton was imported.
    """

    def __init__(self, params: CRFParams, device: torch.device, beside: "MeanField | None" = None) -> None:
        """Choose the energy and the device; two beside each other share the lattices that pictures do not alter."""
        self._params, self._device = params, device
        self._launches = Launches.on(device)
        self._graphs, self._buffers = Graphs(device), Buffers(device)
        symmetric = params.normalization == "symmetric"
        smooth = Kernel(weight=params.gaussian_weight, xy=params.gaussian_xy, rgb=None, symmetric=symmetric)
        alike = Kernel(
            weight=params.bilateral_weight, xy=params.bilateral_xy, rgb=params.bilateral_rgb, symmetric=symmetric
        )
        own = Smoothness(smooth, device) if smooth.weight > 0 and not beside else None
        self._smoothness: Smoothness | None = beside._smoothness if beside else own
        self._appearance = LatticeBuilder(alike, device, self._buffers) if alike.weight > 0 else None

    def survey(self, window: Window) -> Tensor:
        """Find the largest probability that each label has in the window.

        Returns:
            (C,) float32 on the device; NaN where a logit of the window is not finite in float32.
        """
        labels = len(window.logits)
        block_lanes = lanes(labels)
        peaks = torch.empty((self._launches.programs, block_lanes), dtype=torch.float32, device=self._device)
        label_kernels.survey[(self._launches.programs,)](
            *_geometry(window), peaks, lanes=block_lanes, rows=self._launches.rows(block_lanes, window.pixels)
        )
        finite = window.logits.float().isfinite().all()
        return torch.where(finite, peaks[:, :labels].amax(dim=0), torch.nan)

    def build(self, window: Window) -> list[Lattice]:
        """Build the lattices of the window's kernels; they last until the next are built.

        Raises:
            CRFError: a lattice would be too large.
        """
        smooth = [self._smoothness.lattice(window.image)] if self._smoothness else []
        return smooth + ([self._appearance.build(window.image)] if self._appearance else [])

    def iterate(self, window: Window, lattices: Sequence[Lattice], kept: Sequence[int], core: Tensor) -> Labels:
        """Update the mean field as often as the parameters say, and label the window's core.

        Args:
            window: the window.
            lattices: its lattices, as `build` gave them.
            kept: the labels that take part, ascending; the others win nowhere.
            core: (2, H, W) uint8 of the core's size, of any strides but between columns, on the device; written to it
                are the labels, and 255 times their posteriors.
        """
        field = self._start(window, kept, lattices)
        messages = []
        if self._params.iterations:
            self._graphs.run(field.key(), lambda: self._updates(field))
            messages = field.messages()
        return self._label(window, kept, field, messages, core)

    def _updates(self, field: "_Field") -> None:
        """Filter the first Q, and Q after every update but the last, which goes with the labelling."""
        for iteration in range(self._params.iterations):
            if iteration:
                self._update(field)
            for lattice, rows in zip(field.lattices, field.rows, strict=True):
                blur(lattice, field.q, rows, self._launches)

    def _start(self, window: Window, kept: Sequence[int], lattices: Sequence[Lattice]) -> "_Field":
        """Write log p and the first Q of the labels that are kept."""
        labels = len(window.logits)
        width = next(width for width in WIDTHS if width >= len(kept))
        field = _Field(
            labels=len(kept),
            pixels=window.pixels,
            width=width,
            costs=self._costs(kept, width),
            log_p=self._buffers.take("log p", (window.pixels, width), torch.float32),
            q=self._buffers.take("q", (window.pixels, width), torch.uint16),
            lattices=list(lattices),
            rows=[self._rows(lattice, width, number) for number, lattice in enumerate(lattices)],
        )
        places = [-1] * labels
        for place, label in enumerate(kept):
            places[label] = place
        block_lanes = lanes(labels)
        label_kernels.start[(self._launches.programs,)](
            *_geometry(window), uploaded(places, torch.int32, self._device), PROBABILITY_FLOOR,
            field.log_p, field.q,
            row_width=width, lanes=block_lanes, rows=self._launches.rows(block_lanes, window.pixels),
        )  # fmt: skip
        return field

    def _costs(self, kept: Sequence[int], width: int) -> Tensor | None:
        """Give the costs of the labels that are kept, float32, where labels have costs of their own."""
        if not self._params.label_costs:
            return None
        costs = self._buffers.take("costs", (width,), torch.float32)
        chosen = [self._params.label_costs[label] for label in kept]
        costs[: len(kept)] = uploaded(chosen, torch.float32, self._device)
        return costs

    def _rows(self, lattice: Lattice, width: int, number: int) -> Rows:
        entries = len(lattice.columns)
        return Rows(
            width=width,
            rooms=(
                self._buffers.take(f"rows {number}", (entries, width), torch.uint16),
                self._buffers.take(f"other rows {number}", (entries, width), torch.uint16),
            ),
            pieces=self._buffers.take(f"pieces {number}", (pieces_of(lattice), width), torch.float32),
        )

    def _update(self, field: "_Field") -> None:
        messages = field.messages()
        label_kernels.update[(self._launches.programs,)](
            *field.unaries(), field.pixels, *_passed(messages, field.log_p), field.q,
            **_corners(messages), **self._shape(field),
        )  # fmt: skip

    def _label(
        self, window: Window, kept: Sequence[int], field: "_Field", messages: "Sequence[_Message]", core: Tensor
    ) -> Labels:
        """Make the last update, and count what it labels."""
        shape = self._shape(field)
        won = self._empty((self._launches.programs, shape["lanes"]), torch.int32)
        posterior = self._empty((self._launches.programs, shape["lanes"]), torch.float32)
        names = uploaded(kept, torch.uint8, self._device)
        label_kernels.label[(self._launches.programs,)](
            *field.unaries(), field.pixels, *_passed(messages, field.log_p),
            window.image.shape[1], *window.core, names, core, *core.stride()[:2], won, posterior,
            **_corners(messages), **shape,
        )  # fmt: skip
        index = names.long()
        labels = len(window.logits)
        pixels = torch.zeros(labels, dtype=torch.int64, device=self._device)
        total = torch.zeros(labels, dtype=torch.float64, device=self._device)
        return Labels(
            pixels=pixels.index_copy_(0, index, won.sum(dim=0)[: len(kept)]),
            posterior=total.index_copy_(0, index, posterior.sum(dim=0, dtype=torch.float64)[: len(kept)]),
        )

    def _shape(self, field: "_Field") -> dict[str, int]:
        """Give the shape of the blocks of a kernel over the pixels' rows."""
        block_lanes = lanes(field.width)
        return {
            "costed": field.costs is not None,
            "width": field.width,
            "lanes": block_lanes,
            "rows": self._launches.rows(block_lanes, field.pixels),
        }

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self._device)


@dataclass(frozen=True, kw_only=True)
class _Field:
    """Hold the mean field of a window.

    Attributes:
        labels: how many are kept.
        pixels: how many there are.
        width: of a row.
        costs: (width,) float32 of the labels; None where all are 1.
        log_p: (pixels, width) float32.
        q: (pixels, width) uint16, fractions.
        lattices: of the kernels.
        rows: of the lattices' vertices.
    """

    labels: int
    pixels: int
    width: int
    costs: Tensor | None
    log_p: Tensor
    q: Tensor
    lattices: list[Lattice]
    rows: list[Rows]

    def unaries(self) -> "tuple[Tensor, int, Tensor]":
        """List the arguments of kernels that read log p; without costs, a tensor that none of them reads."""
        return self.log_p, self.labels, self.log_p if self.costs is None else self.costs

    def messages(self) -> "list[_Message]":
        """List the filtered rows of Q, where there are some."""
        return [
            _Message(rows.blurred(lattice), lattice) for lattice, rows in zip(self.lattices, self.rows, strict=True)
        ]

    def key(self) -> tuple[int, ...]:
        """Give all that an update depends on but the values: sizes, and the tensors' addresses."""
        tensors = [self.log_p, self.q, *([] if self.costs is None else [self.costs])]
        for lattice, rows in zip(self.lattices, self.rows, strict=True):
            tensors += [value for value in vars(lattice).values() if isinstance(value, Tensor)]
            tensors += [*rows.rooms, rows.pieces]
        sizes = [len(lattice.columns) for lattice in self.lattices]
        return (self.labels, self.pixels, self.width, *sizes, *(tensor.data_ptr() for tensor in tensors))


class _Message(NamedTuple):
    """Hold the filtered rows of a lattice's vertices, to be sliced."""

    rows: Tensor
    lattice: Lattice


def _geometry(window: Window) -> tuple[object, ...]:
    """List the arguments of kernels that read logits."""
    labels, rows, columns = window.logits.shape
    return (
        *(window.logits, *window.logits.stride(), labels, rows, columns),
        *(*window.down, *window.along, window.image.shape[1], window.pixels),
    )


def _passed(messages: Sequence[_Message], unread: Tensor) -> list[Tensor]:
    """List the arguments of two messages; for one that is not there, a tensor that no kernel reads."""
    given = [tensor for rows, lattice in messages for tensor in (rows, lattice.corner, lattice.slices)]
    return given + [unread] * (6 - len(given))


def _corners(messages: Sequence[_Message]) -> dict[str, int]:
    corners = [lattice.corners for _, lattice in messages] + [0, 0]
    return {"first_corners": corners[0], "second_corners": corners[1]}
