"""Kernels that filter rows of labels over a lattice: splat, blur and slice, with sums in float32 and in a fixed order.

A row of Q, or of a vertex, holds an unsigned 16-bit fraction for each label, `width` of them with the padding: what a
vertex holds is the share of its mass that a label has. Blurring is a mean of such shares then, and rounds to 2^-17,
sixteen times as finely as 16-bit floats would; nothing overflows, however many pixels a vertex sums. A block's rows
have `lanes` elements, a power of two.
"""

import triton
import triton.language as tl


@triton.jit
def as_fraction(value):
    """Round a float32 in units of a fraction, 0 to 65535, to uint16."""
    return (tl.minimum(value, 65535.0) + 0.5).to(tl.uint16)


@triton.jit
def _gather(values, index, weight, is_there, width: tl.constexpr, lanes: tl.constexpr):
    """Sum weighted rows of `values` over the entries of (rows, entries) `index` and `weight`: (rows, lanes) float32."""
    lane = tl.arange(0, lanes)
    mask = is_there[:, :, None] & (lane < width)[None, None, :]
    taken = tl.load(values + index[:, :, None] * width + lane[None, None, :], mask=mask, other=0)
    return tl.sum(taken.to(tl.float32) * weight[:, :, None], axis=1)


@triton.jit(do_not_specialize=["entries"])
def sum_pieces(
    values, vertex, columns, weights, entries, pieces,
    piece: tl.constexpr, batch: tl.constexpr, width: tl.constexpr, lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Sum the entries of each piece, `piece` entries from a multiple of it on, that lies within one vertex."""
    lane = tl.arange(0, lanes)
    for block in tl.range(tl.program_id(0), tl.cdiv(entries // piece, rows), tl.num_programs(0)):
        number = block * rows + tl.arange(0, rows)
        is_piece = number < entries // piece
        start = number * piece
        first = tl.load(vertex + start, mask=is_piece, other=0)
        last = tl.load(vertex + start + piece - 1, mask=is_piece, other=-1)
        whole = is_piece & (first == last)
        if tl.max(whole.to(tl.int32), axis=0) > 0:
            total = tl.zeros([rows, lanes], tl.float32)
            for step in tl.range(0, piece, batch):
                entry = start[:, None] + step + tl.arange(0, batch)[None, :]
                is_there = whole[:, None] & (entry < entries)
                column = tl.load(columns + entry, mask=is_there, other=0)
                weight = tl.load(weights + entry, mask=is_there, other=0.0)
                total += _gather(values, column, weight, is_there, width, lanes)
            mask = whole[:, None] & (lane < width)[None, :]
            tl.store(pieces + number[:, None] * width + lane[None, :], total, mask=mask)


@triton.jit
def splat(
    values, columns, weights, offsets, vertices, pieces, out,
    piece: tl.constexpr, batch: tl.constexpr, width: tl.constexpr, lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Sum each vertex's entries, whole pieces among them as sum_pieces has summed them."""
    count = tl.load(vertices)
    lane = tl.arange(0, lanes)
    for block in tl.range(tl.program_id(0), tl.cdiv(count, rows), tl.num_programs(0)):
        vertex = block * rows + tl.arange(0, rows)
        is_vertex = vertex < count
        start = tl.load(offsets + vertex, mask=is_vertex, other=0)
        stop = tl.load(offsets + vertex + 1, mask=is_vertex, other=0)
        first_piece, last_piece = tl.cdiv(start, piece), stop // piece
        has_pieces = first_piece < last_piece
        head = tl.where(has_pieces, first_piece * piece, stop) - start
        alone = head + tl.where(has_pieces, stop - last_piece * piece, 0)  # entries in no whole piece
        total = tl.zeros([rows, lanes], tl.float32)
        for step in tl.range(0, tl.max(alone, axis=0), batch):
            place = step + tl.arange(0, batch)[None, :]
            is_there = place < alone[:, None]
            beyond = (last_piece * piece - head)[:, None]
            entry = place + tl.where(place < head[:, None], start[:, None], beyond)
            column = tl.load(columns + entry, mask=is_there, other=0)
            weight = tl.load(weights + entry, mask=is_there, other=0.0)
            total += _gather(values, column, weight, is_there, width, lanes)
        number = tl.where(has_pieces, last_piece - first_piece, 0)
        for step in tl.range(0, tl.max(number, axis=0), batch):
            place = step + tl.arange(0, batch)[None, :]
            is_there = place < number[:, None]
            total += _gather(pieces, first_piece[:, None] + place, is_there.to(tl.float32), is_there, width, lanes)
        if out.dtype.element_ty == tl.uint16:
            total = as_fraction(total)
        mask = is_vertex[:, None] & (lane < width)[None, :]
        tl.store(out + vertex[:, None] * width + lane[None, :], total, mask=mask)


@triton.jit(do_not_specialize=["capacity", "axis"])
def blur_masses(masses, neighbours, vertices, capacity, axis, out, weights, rows: tl.constexpr):
    """Blur the vertices' masses, float32, along an axis, and give the share of either neighbour in the sum."""
    count = tl.load(vertices)
    for block in tl.range(tl.program_id(0), tl.cdiv(count, rows), tl.num_programs(0)):
        vertex = block * rows + tl.arange(0, rows)
        is_vertex = vertex < count
        place = 2 * axis * capacity + vertex
        above = tl.load(neighbours + place, mask=is_vertex, other=-1)
        below = tl.load(neighbours + place + capacity, mask=is_vertex, other=-1)
        upper = 0.5 * tl.load(masses + above, mask=above >= 0, other=0.0)
        lower = 0.5 * tl.load(masses + below, mask=below >= 0, other=0.0)
        total = tl.load(masses + vertex, mask=is_vertex, other=0.0) + (upper + lower)
        tl.store(out + vertex, total, mask=is_vertex)
        shared = tl.maximum(total, 1e-30)  # a vertex that no point has a share in
        tl.store(weights + place, upper / shared, mask=is_vertex)
        tl.store(weights + place + capacity, lower / shared, mask=is_vertex)


@triton.jit(do_not_specialize=["capacity", "axis"])
def blur(
    values, neighbours, weights, vertices, capacity, axis, out,
    width: tl.constexpr, lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Blur the vertices' fractions along an axis: their mean with those of the neighbours, by mass."""
    count = tl.load(vertices)
    lane = tl.arange(0, lanes)
    is_label = (lane < width)[None, :]
    for block in tl.range(tl.program_id(0), tl.cdiv(count, rows), tl.num_programs(0)):
        vertex = block * rows + tl.arange(0, rows)
        is_vertex = vertex < count
        place = 2 * axis * capacity + vertex
        above = tl.load(neighbours + place, mask=is_vertex, other=-1)[:, None]
        below = tl.load(neighbours + place + capacity, mask=is_vertex, other=-1)[:, None]
        upper_weight = tl.load(weights + place, mask=is_vertex, other=0.0)[:, None]
        lower_weight = tl.load(weights + place + capacity, mask=is_vertex, other=0.0)[:, None]
        row = vertex[:, None] * width + lane[None, :]
        mask = is_vertex[:, None] & is_label
        own = tl.load(values + row, mask=mask, other=0).to(tl.float32)
        upper = tl.load(values + above * width + lane[None, :], mask=(above >= 0) & is_label, other=0).to(tl.float32)
        lower = tl.load(values + below * width + lane[None, :], mask=(below >= 0) & is_label, other=0).to(tl.float32)
        mean = own + (upper_weight * (upper - own) + lower_weight * (lower - own))
        tl.store(out + row, as_fraction(mean), mask=mask)


@triton.jit
def interpolated(
    values, corner, weights, pixel, is_pixel,
    corners: tl.constexpr, width: tl.constexpr, lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Slice: interpolate a block's pixels, (rows,), from the corners of their simplices, to (rows, lanes) float32."""
    total = tl.zeros([rows, lanes], tl.float32)
    lane = tl.arange(0, lanes)
    mask = is_pixel[:, None] & (lane < width)[None, :]
    for remainder in tl.static_range(corners):
        vertex = tl.load(corner + pixel * corners + remainder, mask=is_pixel, other=0)
        weight = tl.load(weights + pixel * corners + remainder, mask=is_pixel, other=0.0)
        taken = tl.load(values + vertex[:, None] * width + lane[None, :], mask=mask, other=0)
        total += taken.to(tl.float32) * weight[:, None]
    return total


@triton.jit(do_not_specialize=["pixels"])
def slice_masses(masses, corner, weights, pixels, out, corners: tl.constexpr, rows: tl.constexpr):
    """Interpolate the vertices' masses at every pixel: (pixels,) float32."""
    for block in tl.range(tl.program_id(0), tl.cdiv(pixels, rows), tl.num_programs(0)):
        pixel = block * rows + tl.arange(0, rows)
        is_pixel = pixel < pixels
        total = interpolated(masses, corner, weights, pixel, is_pixel, corners, 1, 1, rows)
        tl.store(out + pixel, tl.sum(total, axis=1), mask=is_pixel)
