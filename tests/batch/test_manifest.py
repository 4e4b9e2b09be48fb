"""The manifest: every id once, in chunks that start small and grow."""

from pathlib import Path

import pytest

from pipeline.batch.manifest import MAX_CHUNK_ROWS, MIN_CHUNK_ROWS, Ids, Manifest, read_chunk
from pipeline.data import rows


def ids(start: int, count: int, whole: bool = False) -> Ids:
    numbers = range(start, start + count)
    return Ids(rows.table([{"key": f"{i:07d}", "version": "1"} for i in numbers], rows.MANIFEST), whole)


@pytest.mark.parametrize("count", [0, 1, 8, 101, 70_000])
def test_every_id_is_in_exactly_one_chunk(tmp_path: Path, count: int) -> None:
    manifest = Manifest(str(tmp_path))
    manifest.write(ids(start, min(1000, count - start)) for start in range(0, count, 1000))
    manifest.close()
    found = [key for chunk in manifest.chunks for key in read_chunk(manifest.uri, chunk).column("key").to_pylist()]
    assert found == [f"{i:07d}" for i in range(count)]
    assert manifest.rows == sum(chunk.rows for chunk in manifest.chunks) == count


def test_chunks_start_small_and_stay_bounded(tmp_path: Path) -> None:
    manifest = Manifest(str(tmp_path))
    manifest.write([ids(0, 70_000)])
    manifest.close()
    sizes = [chunk.rows for chunk in manifest.chunks]
    assert sizes[0] == MIN_CHUNK_ROWS
    assert max(sizes) == MAX_CHUNK_ROWS
    assert sizes[:-1] == sorted(sizes[:-1])


def test_a_row_group_is_never_cut(tmp_path: Path) -> None:
    manifest = Manifest(str(tmp_path))
    manifest.write([ids(0, 700, True), ids(700, 3, True), ids(703, 3, True), ids(706, 5, True)])
    manifest.close()
    assert [chunk.rows for chunk in manifest.chunks] == [700, 11]


def test_files_are_split_so_that_one_fits_in_memory(tmp_path: Path) -> None:
    manifest = Manifest(str(tmp_path))
    manifest.write(ids(start, 1000) for start in range(0, 140_000, 1000))
    manifest.close()
    assert len(list(tmp_path.iterdir())) == len({chunk.file for chunk in manifest.chunks}) == 3
