"""Parcels travel whole: a task that is repeated, and goes another way, gives the same images in the same blocks."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from ray.cluster_utils import Cluster
from ray.data import ActorPoolStrategy, Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline import storage
from pipeline.batch.fetch import _cuts, fetch_chunk
from pipeline.batch.manifest import read_chunk
from pipeline.batch.parcels import BLOCK_BYTES, ends, packed, parcelled, unpacked
from pipeline.data import source as sources
from pipeline.data.formats.format import Encoded
from pipeline.data.rows import Row
from pipeline.errors import ImageError
from pipeline.runtime.configured import configured
from tests.helpers.shards import listed

STORE = 300 * 2**20
IMAGES, PARCEL = 256, 32


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(1, 50), st.integers(0, 30))
def test_what_is_packed_comes_out_and_the_cuts_follow_from_the_order_alone(
    sizes: list[int], size: int, some: int
) -> None:
    table = pa.table(
        {
            "key": pa.array([f"{n}" for n in range(len(sizes))], pa.string()),
            "image": pa.array([bytes(n) for n in sizes], pa.large_binary()),
        }
    ).slice(len(sizes) // 3)
    parcels = list(packed([table.slice(0, some), table.slice(some)], ends(table.num_rows, size)))
    rows = [unpacked(parcel).num_rows for parcel in parcels]
    assert [parcel.num_rows for parcel in parcels] == [1] * len(rows)
    assert len(rows) <= -(-table.num_rows // size)
    if parcels:
        assert max(rows) - min(rows) <= 1
        assert max(rows) < 4 / 3 * size + 1
        assert unpacked(pa.concat_tables(parcels)).equals(table)


def test_a_parcel_does_not_wait_for_what_is_not_in_it() -> None:
    asked = []

    def tables() -> Iterator[pa.Table]:
        for start in range(0, 40, 10):
            asked.append(start)
            yield pa.table({"key": list(range(start, start + 10))})

    parcels = packed(tables(), [13, 26, 40])
    assert unpacked(next(parcels))["key"].to_pylist() == list(range(13))
    assert asked == [0, 10]
    assert [unpacked(parcel).num_rows for parcel in parcels] == [13, 14]


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(0, 4, []), (1, 1024, [1]), (8, 4, [4, 8]), (1100, 512, [550, 1100]), (1200, 512, [400, 800, 1200])],
)
def test_a_small_rest_makes_no_parcel_of_its_own(count: int, size: int, expected: list[int]) -> None:
    assert ends(count, size) == expected


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_fetched_comes_in_the_order_of_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    for n in range(12):
        storage.put_whole(f"{tmp_path}/in/{n:02d}.jpg", bytes([n]))
    source = sources.open_source(f"{tmp_path}/in", "auto")
    manifest = listed(source, tmp_path / "manifest")

    def fetch(_: Any, __: str, rows: list[Row]) -> Iterator[list[tuple[Row, Encoded]]]:
        for row in reversed(rows) if fails else rows:
            yield [(row, ImageError("gone") if fails else b"x")]

    monkeypatch.setattr(type(source.formats["images"]), "fetch", fetch)
    for chunk in manifest.chunks:
        keys = read_chunk(manifest.uri, chunk)["key"].to_pylist()
        found = [table["key"].to_pylist() for table in fetch_chunk(source, manifest.uri, chunk, 2)]
        assert found == [keys[:2], keys[2:]]


@pytest.mark.parametrize(
    ("lengths", "cuts"),
    [
        ([], []),
        ([None] * 7, [3, 7]),
        ([40, 40, 1, 1, 1, 1], [1, 3, 6]),
        ([100, 100, 1], [1, 2, 3]),  # one that is larger travels alone
        ([1, 100, 1, 63, 1], [1, 2, 4, 5]),
    ],
)
def test_large_images_travel_few_at_a_time(lengths: list[int | None], cuts: list[int]) -> None:
    listed = [{"length": length and length * 2**21} for length in lengths]
    assert list(_cuts(listed, 3)) == cuts


class _Numbers(Datasource):
    """One task, which gives IMAGES images; those it could not fetch the first time have no bytes."""

    def __init__(self, mark: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._mark = mark

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        mark = self._mark

        def read() -> Iterator[pa.Table]:
            size = 100 if _is_first(mark) else 40_000
            images = pa.array([os.urandom(size if n % 5 else 40_000) for n in range(IMAGES)], pa.large_binary())
            table = pa.table({"key": list(range(IMAGES)), "image": images})
            yield from packed([table], ends(IMAGES, PARCEL))

        return [ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]


class _Stage:
    """Hands logits on of a part of a batch, and masks of the rest: of another part when it is done again."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def __call__(self, images: pa.Table) -> Iterator[pa.Table]:
        large = 120 if _is_first(self._mark) else 10
        made = [os.urandom(227_000 if n < large else 6_000) for n in range(images.num_rows)]
        yield pa.table({"key": images["key"], "made": pa.array(made, pa.large_binary())})


def _is_first(mark: str) -> bool:
    with Path(mark).open("a") as file:
        file.write("x")
    return Path(mark).stat().st_size == 1


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A head for the driver, and a node that does the work."""
    ray.shutdown()
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 1, "object_store_memory": STORE, "_system_config": soon}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, resources={"worker": 1}, object_store_memory=STORE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.parametrize("lost", ["fetched", "segmented"])
def test_no_image_is_lost_or_there_twice_where_a_lost_machine_s_task_goes_another_way(
    nodes: Cluster, tmp_path: Path, lost: str
) -> None:
    mark, at_worker = str(tmp_path / "mark"), {"worker": 0.1}
    with configured(block_bytes=BLOCK_BYTES):
        data = ray.data.read_datasource(
            _Numbers(mark if lost == "fetched" else f"{mark}-fetch"),
            num_cpus=0,
            override_num_blocks=1,
            resources=at_worker,
        )
        if lost == "segmented":
            data = data.map_batches(
                parcelled(_Stage, PARCEL),
                fn_constructor_args=(mark,),
                batch_size=IMAGES // PARCEL,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=1),
                num_cpus=0.5,
                resources=at_worker,
            )
        blocks = (block.ref for bundle in data.iter_internal_ref_bundles() for block in bundle.blocks)
        keys = Counter(unpacked(ray.get(next(blocks)))["key"].to_pylist())
        assert len(keys) == PARCEL
        [worker] = [node for node in nodes.list_all_nodes() if node is not nodes.head_node]
        nodes.remove_node(worker, allow_graceful=False)
        nodes.add_node(num_cpus=1, resources={"worker": 1}, object_store_memory=STORE)
        for block in blocks:
            keys.update(unpacked(ray.get(block))["key"].to_pylist())
    assert keys == dict.fromkeys(range(IMAGES), 1)
    assert Path(mark).stat().st_size > 1  # it was done again
