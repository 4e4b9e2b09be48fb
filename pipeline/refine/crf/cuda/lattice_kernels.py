"""Kernels that build a permutohedral lattice: the points' simplices, the vertices' numbers, and their neighbours.

Names of one letter are those of the paper (Adams, Baek and Davis, 2010): d dimensions, d + 1 corners of a simplex.
"""

import triton
import triton.language as tl


@triton.jit
def _feature(axis: tl.constexpr, point, pixels, width, image, row_stride, column_stride, channel_stride, xy, rgb):
    """Give a feature of points, in standard deviations: x, y and three colours. A point after the last is all 0."""
    inside = point < pixels
    if axis == 0:
        value = tl.div_rn((point % width).to(tl.float32), xy)
    elif axis == 1:
        value = tl.div_rn((point // width).to(tl.float32), xy)
    else:
        row, column = (point // width).to(tl.int64), (point % width).to(tl.int64)
        place = row * row_stride + column * column_stride + (axis - 2) * channel_stride
        value = tl.div_rn(tl.load(image + place, mask=inside, other=0).to(tl.float32), rgb)
    return tl.where(inside, value, 0.0)


@triton.jit
def _nearest(value):
    """Round to the nearest whole number, half to even; below 2^22."""
    return (value + 12582912.0) - 12582912.0


@triton.jit(do_not_specialize=["pixels", "points", "width", "row_stride", "column_stride", "channel_stride"])
def locate(
    image, row_stride, column_stride, channel_stride, pixels, points, width, xy, rgb,
    scales, cells, remainder_key, keys, weights,
    dimensions: tl.constexpr, lanes: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Find each point's simplex: the keys (points, d + 1) of its corners and its weights there, float32.

    By rounding and sorting (Adams et al., pages 5 and 10), in pydensecrf's arithmetic: without fused multiply-add.
    """
    corners: tl.constexpr = dimensions + 1
    lane = tl.arange(0, lanes)
    is_lane = lane < corners
    cell_key = tl.load(cells + lane, mask=is_lane, other=0)
    unit_key = tl.load(remainder_key)
    for block in tl.range(tl.program_id(0), tl.cdiv(points, rows), tl.num_programs(0)):
        point = block * rows + tl.arange(0, rows)
        elevated = tl.zeros([rows, lanes], tl.float32)
        total = tl.zeros([rows], tl.float32)
        for axis in tl.static_range(dimensions, 0, -1):
            scaled = _feature(
                axis - 1, point, pixels, width, image, row_stride, column_stride, channel_stride, xy, rgb
            ) * tl.load(scales + axis - 1)
            elevated = tl.where(lane[None, :] == axis, (total - scaled * axis)[:, None], elevated)
            total = total + scaled
        elevated = tl.where(lane[None, :] == 0, total[:, None], elevated)
        # the remainder-0 point closest in every coordinate, and how far off the plane it is
        cell = _nearest(elevated * (1.0 / corners))
        excess = tl.sum(cell, axis=1).to(tl.int32)  # lanes beyond the corners are 0
        rest = elevated - cell * corners
        # how many coordinates are larger; of equal ones the first has the higher rank
        larger = rest[:, :, None] < rest[:, None, :]
        equal_before = (rest[:, :, None] == rest[:, None, :]) & (lane[None, :, None] > lane[None, None, :])
        counted = (larger | equal_before) & is_lane[None, None, :]
        rank = tl.sum(counted.to(tl.int32), axis=2) + excess[:, None]  # (rows, lanes)
        wrap = (rank < 0).to(tl.int32) - (rank >= corners).to(tl.int32)
        rank = tl.where(is_lane[None, :], rank + wrap * corners, -1)
        cell = cell + wrap.to(tl.float32)
        rest = (elevated - cell * corners) * (1.0 / corners)
        # remainders along the last axis: (rows, lanes, remainders)
        ranks, rests, remainder = rank[:, :, None], rest[:, :, None], lane[None, None, :]
        first = tl.sum(tl.where(ranks == dimensions - remainder, rests, 0.0), axis=1)
        second = tl.sum(tl.where(ranks == (corners - remainder) % corners, rests, 0.0), axis=1)
        share = tl.where(lane[None, :] == 0, first + (1.0 - second), first - second)
        steps = cell.to(tl.int64)[:, :, None] - (ranks > dimensions - remainder).to(tl.int64)
        key = tl.sum(steps * cell_key[None, :, None], axis=1) + lane[None, :] * unit_key
        place = point[:, None] * corners + lane[None, :]
        is_point = (point < points)[:, None] & is_lane[None, :]
        tl.store(keys + place, key.to(keys.dtype.element_ty), mask=is_point)
        share = tl.where((point < pixels)[:, None], tl.maximum(share, 0.0), 0.0)  # rounding made some -1e-8
        tl.store(weights + place, share, mask=is_point)


@triton.jit(do_not_specialize=["entries", "pixels"])
def number(
    keys, order, vertex, weights, entries, pixels,
    offsets, vertex_keys, columns, entry_weights, corner, vertices,
    corners: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Write down the vertices, and what is summed into them: entries, a point's shares in a corner, sorted by key."""
    for block in tl.range(tl.program_id(0), tl.cdiv(entries, rows), tl.num_programs(0)):
        entry = block * rows + tl.arange(0, rows)
        is_entry = entry < entries
        at = tl.load(vertex + entry, mask=is_entry, other=0)
        before = tl.load(vertex + entry - 1, mask=is_entry & (entry > 0), other=-1)
        source = tl.load(order + entry, mask=is_entry, other=0)
        is_first = is_entry & (at != before)
        tl.store(offsets + at, entry, mask=is_first)
        tl.store(vertex_keys + at, tl.load(keys + entry, mask=is_first, other=0), mask=is_first)
        is_last = entry == entries - 1
        tl.store(offsets + at + 1, entry + 1, mask=is_last)
        tl.store(vertices + tl.zeros_like(at), at + 1, mask=is_last)
        pixel = tl.minimum(source // corners, pixels - 1).to(tl.int32)
        tl.store(columns + entry, pixel, mask=is_entry)
        tl.store(entry_weights + entry, tl.load(weights + source, mask=is_entry, other=0), mask=is_entry)
        tl.store(corner + source, at, mask=is_entry)


@triton.jit(do_not_specialize=["capacity"])
def link(
    vertex_keys, vertices, steps, neighbours, capacity,
    corners: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Find each vertex's neighbours on every axis by binary search; `neighbours` (d + 1, 2, capacity) holds -1s."""
    count = tl.load(vertices)
    for block in tl.range(tl.program_id(0), tl.cdiv(count, rows), tl.num_programs(0)):
        vertex = block * rows + tl.arange(0, rows)
        is_vertex = vertex < count
        key = tl.load(vertex_keys + vertex, mask=is_vertex, other=0)
        for axis in tl.static_range(corners):
            wanted = key + tl.load(steps + axis)
            low = tl.zeros([rows], tl.int32)
            size = count
            while size > 1:  # the last vertex whose key is not above the wanted one lies in [low, low + size)
                half = size // 2
                middle = tl.load(vertex_keys + low + half, mask=is_vertex, other=0)
                low = tl.where(middle <= wanted, low + half, low)
                size = size - half
            found = is_vertex & (tl.load(vertex_keys + low, mask=is_vertex, other=0) == wanted)
            tl.store(neighbours + 2 * axis * capacity + vertex, low, mask=found)
            tl.store(neighbours + (2 * axis + 1) * capacity + low, vertex, mask=found)
