"""The cut of a side into tiles."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import Geometry, aligned, half_pixels
from pipeline.models.tiles import spans

STRIDE = 8


@given(
    pixels=st.integers(1, 20_000),
    step=st.sampled_from([8, 16, 32]),
    tile_steps=st.integers(4, 64),
    overlap_steps=st.integers(0, 31),
    geometry=st.sampled_from([aligned(STRIDE), half_pixels(STRIDE)]),
)
def test_spans(pixels: int, step: int, tile_steps: int, overlap_steps: int, geometry: Geometry) -> None:
    extra = geometry.extra
    overlap = min(overlap_steps, tile_steps // 2 - 1) * step
    tile = tile_steps * step + extra
    tiles = spans(pixels, tile=tile, overlap=overlap, geometry=geometry, step=step)
    padded = geometry.valid_size(pixels, step)
    # tiles are equal, valid, within the limit, on the grid of every scale, and cover the padded side
    assert len({span.size for span in tiles}) == 1
    assert tiles[0].size <= tile
    assert (tiles[0].size - extra) % step == 0
    assert all(span.start % step == 0 for span in tiles)
    assert (tiles[0].start, tiles[-1].stop) == (0, padded)
    # the picture reaches into every tile
    assert all(span.start < pixels for span in tiles)
    # every grid point is decided once, by a tile that holds it
    points = [point for span in tiles for point in range(span.first, span.last)]
    assert points == list(range(geometry.points(padded)))
    assert all(span.start <= STRIDE * span.first and STRIDE * (span.last - 1) < span.stop for span in tiles)
    # neighbours share at least the overlap, and each decides about half of what they share
    for left, right in pairwise(tiles):
        shared = left.stop - extra - right.start
        assert shared >= overlap
        assert abs((left.stop - extra - STRIDE * left.last) - (STRIDE * left.last - right.start)) <= 2 * STRIDE


def test_no_more_tiles_than_needed() -> None:
    assert len(spans(1025, tile=1025, overlap=256, geometry=aligned(8), step=8)) == 1
    assert len(spans(1026, tile=1025, overlap=256, geometry=aligned(8), step=8)) == 2
    assert len(spans(1025 + 768, tile=1025, overlap=256, geometry=aligned(8), step=8)) == 2
    assert len(spans(1025 + 769, tile=1025, overlap=256, geometry=aligned(8), step=8)) == 3
