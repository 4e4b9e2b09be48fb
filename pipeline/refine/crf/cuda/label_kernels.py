"""Kernels over a window's pixels: from logits to log p and Q, a mean-field update, and the labels at the end.

Probabilities and energies are float32 in registers; between kernels log p is float32 and Q a 16-bit fraction.
"""

import triton
import triton.language as tl

from pipeline.refine.crf.cuda.row_kernels import as_fraction, interpolated


@triton.jit
def _softmax(energy):
    """Give exp(energy - its maximum) and its sum over the labels, of (rows, lanes)."""
    raised = tl.exp(energy - tl.max(energy, axis=1)[:, None])
    return raised, tl.sum(raised, axis=1)[:, None]


@triton.jit
def _place(pixel, step, offset, unit, points):
    """Place pixels along an axis of the grid, as pipeline.geometry.Axis says: two points, and how far between them."""
    position = tl.maximum(pixel.to(tl.int64) * step + offset, 0)
    before = tl.minimum(position // unit, points - 1)
    fraction = tl.div_rn((position % unit).to(tl.float32), unit.to(tl.float32))
    return before, tl.minimum(before + 1, points - 1), fraction


@triton.jit
def _loaded(logits, mask):
    """Load logits as float32, within the bounds of core/grid.cpp, so that no difference of two overflows."""
    return tl.clamp(tl.load(logits, mask=mask, other=0).to(tl.float32), -1e30, 1e30)


@triton.jit
def _between(before, after, fraction):
    """Interpolate."""
    return before + fraction * (after - before)


@triton.jit
def _probabilities(
    logits, label_stride, row_stride, column_stride, labels, grid_rows, grid_columns,
    row_step, row_offset, row_unit, column_step, column_offset, column_unit, width, pixel, is_pixel, lane,
):  # fmt: skip
    """Upsample the logits, as pipeline.logits does, and take the softmax: (rows, lanes) float32 of a block's pixels."""
    row, next_row, below = _place(pixel // width, row_step, row_offset, row_unit, grid_rows)
    column, next_column, right = _place(pixel % width, column_step, column_offset, column_unit, grid_columns)
    mask = is_pixel[:, None] & (lane < labels)[None, :]
    label = lane.to(tl.int64)[None, :] * label_stride
    upper = logits + (row * row_stride)[:, None] + label
    lower = logits + (next_row * row_stride)[:, None] + label
    here, beside = (column * column_stride)[:, None], (next_column * column_stride)[:, None]
    first = _between(_loaded(upper + here, mask), _loaded(upper + beside, mask), right[:, None])
    second = _between(_loaded(lower + here, mask), _loaded(lower + beside, mask), right[:, None])
    value = tl.where((lane < labels)[None, :], _between(first, second, below[:, None]), -float("inf"))
    raised, total = _softmax(value)
    return raised / total


_GEOMETRY = [
    "label_stride", "row_stride", "column_stride", "labels", "grid_rows", "grid_columns",
    "row_step", "row_offset", "row_unit", "column_step", "column_offset", "column_unit", "width", "pixels",
]  # fmt: skip
"""Numbers that differ from picture to picture: no kernel is compiled anew for them."""


@triton.jit(do_not_specialize=_GEOMETRY)
def survey(
    logits, label_stride, row_stride, column_stride, labels, grid_rows, grid_columns,
    row_step, row_offset, row_unit, column_step, column_offset, column_unit, width, pixels, peaks,
    lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Give each label's largest probability among a program's pixels: (programs, lanes) float32."""
    lane = tl.arange(0, lanes)
    largest = tl.zeros([lanes], tl.float32)
    for block in tl.range(tl.program_id(0), tl.cdiv(pixels, rows), tl.num_programs(0)):
        pixel = block * rows + tl.arange(0, rows)
        is_pixel = pixel < pixels
        p = _probabilities(
            logits, label_stride, row_stride, column_stride, labels, grid_rows, grid_columns,
            row_step, row_offset, row_unit, column_step, column_offset, column_unit, width, pixel, is_pixel, lane,
        )  # fmt: skip
        largest = tl.maximum(largest, tl.max(tl.where(is_pixel[:, None], p, 0.0), axis=0))
    tl.store(peaks + tl.program_id(0) * lanes + lane, largest)


@triton.jit(do_not_specialize=_GEOMETRY)
def start(
    logits, label_stride, row_stride, column_stride, labels, grid_rows, grid_columns,
    row_step, row_offset, row_unit, column_step, column_offset, column_unit, width, pixels, places, floor, log_p, q,
    row_width: tl.constexpr, lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Write log p and the first Q of the labels that are kept, at their places in a row; others have the place -1."""
    lane = tl.arange(0, lanes)
    place = tl.load(places + lane, mask=lane < labels, other=-1)
    is_kept = (place >= 0)[None, :]
    for block in tl.range(tl.program_id(0), tl.cdiv(pixels, rows), tl.num_programs(0)):
        pixel = block * rows + tl.arange(0, rows)
        is_pixel = pixel < pixels
        p = _probabilities(
            logits, label_stride, row_stride, column_stride, labels, grid_rows, grid_columns,
            row_step, row_offset, row_unit, column_step, column_offset, column_unit, width, pixel, is_pixel, lane,
        )  # fmt: skip
        p = tl.maximum(p, floor)
        total = tl.sum(tl.where(is_kept, p, 0.0), axis=1)[:, None]
        row = pixel[:, None] * row_width + place[None, :]
        mask = is_pixel[:, None] & is_kept
        tl.store(log_p + row, tl.log(p), mask=mask)
        tl.store(q + row, as_fraction(p / total * 65535.0), mask=mask)


@triton.jit
def _energy(
    log_p, labels, costs, pixel, is_pixel, lane,
    first, first_corner, first_weights, second, second_corner, second_weights,
    first_corners: tl.constexpr, second_corners: tl.constexpr, costed: tl.constexpr,
    width: tl.constexpr, lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Give log p and what the kernels' messages say, (rows, lanes) float32; -inf beyond the labels.

    Labels a and b cost (c_a + c_b) / 2: so a gains c_a (m_a - sum(m) / 2) by the messages m, and what all labels gain.
    """
    is_label = (lane < labels)[None, :]
    row = pixel[:, None] * width + lane[None, :]
    energy = tl.load(log_p + row, mask=is_pixel[:, None] & is_label, other=0.0)
    messages = interpolated(first, first_corner, first_weights, pixel, is_pixel, first_corners, width, lanes, rows)
    messages += interpolated(second, second_corner, second_weights, pixel, is_pixel, second_corners, width, lanes, rows)
    if costed:
        cost = tl.load(costs + lane, mask=lane < labels, other=0.0)[None, :]
        total = tl.sum(tl.where(is_label, messages, 0.0), axis=1)[:, None]
        messages = cost * (messages - 0.5 * total)
    return tl.where(is_label, energy + messages, -float("inf"))


@triton.jit(do_not_specialize=["labels", "pixels"])
def update(
    log_p, labels, costs, pixels,
    first, first_corner, first_weights, second, second_corner, second_weights, q,
    first_corners: tl.constexpr, second_corners: tl.constexpr, costed: tl.constexpr,
    width: tl.constexpr, lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Update Q <- softmax(log p - mu sum_k w_k K_k Q), from the filtered vertices of up to two kernels."""
    lane = tl.arange(0, lanes)
    for block in tl.range(tl.program_id(0), tl.cdiv(pixels, rows), tl.num_programs(0)):
        pixel = block * rows + tl.arange(0, rows)
        is_pixel = pixel < pixels
        energy = _energy(
            log_p, labels, costs, pixel, is_pixel, lane,
            first, first_corner, first_weights, second, second_corner, second_weights,
            first_corners, second_corners, costed, width, lanes, rows,
        )  # fmt: skip
        raised, total = _softmax(energy)
        row = pixel[:, None] * width + lane[None, :]
        tl.store(q + row, as_fraction(raised / total * 65535.0), mask=is_pixel[:, None] & (lane < width)[None, :])


@triton.jit(
    do_not_specialize=[
        "labels", "pixels", "window_width", "plane_stride", "row_stride", "top", "bottom", "left", "right",
    ]
)  # fmt: skip
def label(
    log_p, labels, costs, pixels,
    first, first_corner, first_weights, second, second_corner, second_weights,
    window_width, top, bottom, left, right, names, core, plane_stride, row_stride, won, posterior,
    first_corners: tl.constexpr, second_corners: tl.constexpr, costed: tl.constexpr,
    width: tl.constexpr, lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Make the last update, and take the best label of the window's core, rows [top, bottom), columns [left, right).

    Writes the core's labels and, in 255ths, their posteriors, and for each program and label how many pixels it won and
    the sum of its posterior there.
    """
    lane = tl.arange(0, lanes)
    number = tl.zeros([lanes], tl.int32)
    total_posterior = tl.zeros([lanes], tl.float32)
    for block in tl.range(tl.program_id(0), tl.cdiv(pixels, rows), tl.num_programs(0)):
        pixel = block * rows + tl.arange(0, rows)
        is_pixel = pixel < pixels
        energy = _energy(
            log_p, labels, costs, pixel, is_pixel, lane,
            first, first_corner, first_weights, second, second_corner, second_weights,
            first_corners, second_corners, costed, width, lanes, rows,
        )  # fmt: skip
        _, total = _softmax(energy)
        best = tl.argmax(energy, axis=1)  # the first of equals
        y, x = pixel // window_width, pixel % window_width
        is_core = is_pixel & (y >= top) & (y < bottom) & (x >= left) & (x < right)
        name = tl.load(names + best, mask=is_core, other=0)
        here = core + (y - top) * row_stride + (x - left)
        tl.store(here, name, mask=is_core)
        sure = 1.0 / total  # (rows, 1): of the largest energy, whose exponential is 1
        tl.store(here[:, None] + plane_stride, (255.0 * sure + 0.5).to(tl.uint8), mask=is_core[:, None])
        wins = (best[:, None] == lane[None, :]) & is_core[:, None]
        number += tl.sum(wins.to(tl.int32), axis=0)
        total_posterior += tl.sum(tl.where(wins, sure, 0.0), axis=0)
    tl.store(won + tl.program_id(0) * lanes + lane, number)
    tl.store(posterior + tl.program_id(0) * lanes + lane, total_posterior)
