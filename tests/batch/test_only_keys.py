"""A file of keys: what is read from it, and what is refused in a line."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.batch.only_keys import read_keys
from pipeline.commands.segment import command as segment_bucket
from pipeline.data import rows
from pipeline.data.ignored import Ignored
from tests.helpers.pictures import jpeg, photo
from tests.helpers.shards import parquet_bytes


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("k.txt", b"a\r\n\n  b.jpg \na\nnobody"),
        ("k.csv", b"why,key\nx,a\n,b.jpg\n,a\n,\n,nobody\n"),
        ("k.csv", b"\xef\xbb\xbfkey\na\nb.jpg\nnobody"),
        ("k.parquet", parquet_bytes(pa.table({"key": ["a", None, "b.jpg", "nobody"], "mask": [b""] * 4}), 2)),
    ],
)
def test_the_rows_of_these_keys_are_chosen_and_keys_without_a_row_are_counted(
    tmp_path: Path, name: str, data: bytes
) -> None:
    storage.put_whole(f"{tmp_path}/{name}", data)
    only, ignored = read_keys(f"{tmp_path}/{name}"), Ignored()
    ids = rows.table([{"key": key, "version": "1"} for key in ("b", "b.jpg", "a", "z")], rows.MANIFEST)
    assert only.of(ids)["key"].to_pylist() == ["b.jpg", "a"]
    only.count_unlisted(ignored)
    assert ignored.counts == {"unlisted keys": 1}
    assert ignored.lines()[0] == "ignored: no image of the input has the key 'nobody'"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("k.csv", b"key\n\n", "k.csv names no key"),
        ("k.txt", b"", "k.txt names no key"),
        ("k.csv", b"name,id\nx,1\n", "k.csv has no column key; its columns are name, id; rename that of keys"),
        (
            "k.csv",
            b"one\ntwo\n",
            "its columns are one; rename that of keys, or call the file .txt if its first line is",
        ),
        ("k.csv", b"a.jpg,9\nb.jpg,8\n", "k.csv begins with 'a.jpg', and a CSV with the names of its columns"),
        ("k.parquet", parquet_bytes(pa.table({"key": [0.5]}), 1), "holds double, and keys are text, whole numbers"),
        ("k.parquet", b"PAR1", "k.parquet is not a readable file of keys"),
        ("k.json", b"[]", "k.json is no table by its name; give a file .csv, .parquet, .txt"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, message: str
) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(photo(0)))
    storage.put_whole(f"{tmp_path}/{name}", data)
    flags = ["--model=scenes", f"--input={tmp_path}/in", f"--output={tmp_path}/out"]
    assert segment_bucket.main([*flags, f"--only-keys={tmp_path}/{name}"]) == 2
    assert message in capsys.readouterr().err
    assert segment_bucket.main([*flags, "--carry=x"]) == 2
    assert "carry names columns of a list" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
