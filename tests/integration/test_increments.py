"""What a second run over the same input costs, retries, and what a dry run says."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import masks, storage
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import write_files
from pipeline.data import rows
from tests.helpers.dataset import finished_row
from tests.helpers.pictures import jpeg, photo
from tests.helpers.s3_proxy import s3_proxy
from tests.helpers.segmenting import summary
from tests.helpers.shards import parquet_bytes, tar_bytes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def test_a_second_run_over_a_thousand_objects_gets_none(
    s3_endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing to do no worker is asked, so all that is requested comes from this process, by way of the proxy."""
    fs, path = storage.filesystem(f"{bucket}/in")
    fs.pipe({f"{path}/good-{n}.jpg": jpeg(photo(n)) for n in range(4)})
    flags = ("--input", f"{bucket}/in", "--output", f"{bucket}/out")
    assert summary(*flags)["segmented"] == 4
    [note] = masks.generations(f"{bucket}/out")
    fs.pipe({f"{path}/{n:04d}.jpg": b"x" for n in range(996)})
    more = [finished_row(e.key, e.version) for e in storage.list_files(f"{bucket}/in") if e.key[0] != "g"]
    write_files(f"{bucket}/out", f"{note.run_id}-00001.parquet", note, rows.table(more, FINISHED))
    with s3_proxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        second = summary(*flags)
        assert (second["listed"], second["skipped"], second["plan"]) == (1000, 1000, None)
        assert proxy.gets(f"{bucket}/in") == []
        assert proxy.gets(f"{bucket}/out")
        proxy.requests.clear()
        fs.pipe_file(f"{path}/good-3.jpg", jpeg(photo(33)))
        forecast = summary(*flags, "--dry-run")
        assert (forecast["listed"], forecast["skipped"], forecast["to_do"]) == (1000, 999, 1)
        assert {method for method, _ in proxy.requests} == {"GET", "HEAD"}
        assert proxy.gets(f"{bucket}/in") == []


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_second_run_reads_no_shard(tmp_path: Path, name: str) -> None:
    """It would stumble over what is there now under the same version: zeros."""
    pictures = {f"{n}.jpg": jpeg(photo(n)) for n in range(3)}
    table = pa.table({"key": list(pictures), "image": list(pictures.values())})
    shard = tmp_path / "in" / name
    storage.put_whole(str(shard), tar_bytes(pictures) if name == "a.tar" else parquet_bytes(table, 2))
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out")
    assert summary(*flags)["segmented"] == 3
    status = shard.stat()
    shard.write_bytes(bytes(status.st_size))
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = summary(*flags)
    assert (second["listed"], second["skipped"], second["failed"]) == (3, 3, 0)


def test_a_bucket_of_every_format_is_one_run(tmp_path: Path) -> None:
    """Two tars that name their images alike among them; a rerun has nothing to do."""
    pictures = {f"{n}.jpg": jpeg(photo(n)) for n in range(2)}
    table = pa.table({"image": [{"bytes": data, "path": name} for name, data in pictures.items()]})
    for name in ("cat/0.tar", "dog/0.tar"):
        storage.put_whole(f"{tmp_path}/in/{name}", tar_bytes(pictures))
    storage.put_whole(f"{tmp_path}/in/data/train.parquet", parquet_bytes(table, 1))
    storage.put_whole(f"{tmp_path}/in/data/words.parquet", parquet_bytes(pa.table({"words": ["x"]}), 1))
    storage.put_whole(f"{tmp_path}/in/_DSC0.JPG", pictures["0.jpg"])
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out", "--refine.backend=none")
    first = summary(*flags)
    assert (first["segmented"], first["failed"], first["ignored"]) == (7, 0, {"other tables": 1})
    wanted = [f"{tar}/{n}" for tar in ("cat/0.tar", "dog/0.tar") for n in range(2)]
    wanted += ["_DSC0.JPG", *(f"data/train.parquet/{name}" for name in pictures)]
    assert sorted(key for key, _ in masks.read(f"{tmp_path}/out")) == sorted(wanted)
    again = summary(*flags)
    assert (again["listed"], again["skipped"]) == (7, 7)


def test_only_what_failed_is_tried_again(tmp_path: Path) -> None:
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out")
    for n in range(3):
        storage.put_whole(f"{tmp_path}/in/{n}.jpg", jpeg(photo(n)))
    first = summary(*flags, "--max-pixels=10", "--error-budget=1")  # every picture is too large
    assert (first["segmented"], first["failed"]) == (0, 3)
    assert summary(*flags)["skipped"] == 3
    storage.put_whole(f"{tmp_path}/in/new.jpg", jpeg(photo(9)))
    retried = summary(*flags, "--retry-errors")
    assert (retried["listed"], retried["segmented"], retried["failed"]) == (4, 3, 0)
    assert (retried["skipped"], retried["left"], retried["stopped"]) == (0, 1, False)  # the new one has no row yet
    assert not masks.verify(f"{tmp_path}/out").problems
    assert sorted(key for key, _ in masks.read(f"{tmp_path}/out")) == ["0.jpg", "1.jpg", "2.jpg"]
    assert summary(*flags, "--retry-errors")["segmented"] == 0
    assert summary(*flags)["segmented"] == 1


def test_another_configuration_is_another_generation(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(photo(1)))
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out")
    others = ("--inference.flip", "--refine.backend=none")
    assert [summary(*flags, *other)["segmented"] for other in ((), others[:1], others[:1], others[1:])] == [1, 1, 0, 1]
    found = [info.generation for info in masks.generations(f"{tmp_path}/out")]
    assert len(set(found)) == 3
    for generation in found:
        assert [key for key, _ in masks.read(f"{tmp_path}/out", generation)] == ["a.jpg"]
