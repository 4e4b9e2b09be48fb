"""A list as input, its columns in masks/, and keys that are done again without the rest."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import masks, storage
from tests.helpers.pictures import jpeg, photo
from tests.helpers.segmenting import rows, summary
from tests.helpers.shards import parquet_bytes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def test_a_list_is_a_run_and_a_slice_of_it_is_done_again(tmp_path: Path) -> None:
    names = ["a", "b", "c", "gone"]
    for n, name in enumerate(names[:3]):
        storage.put_whole(f"{tmp_path}/in/{name}.jpg", jpeg(photo(n)))
    table = pa.table({"path": [f"in/{name}.jpg" for name in names], "key": names, "iso": [100, None, 400, 800]})
    storage.put_whole(f"{tmp_path}/list.parquet", parquet_bytes(table, 2))
    output = f"{tmp_path}/out"
    flags = ["--input", f"{tmp_path}/list.parquet", "--input-format=list", "--output", output, "--carry=iso"]
    flags += ["--refine.backend=none", "--error-budget=1"]
    first = summary(*flags)
    assert (first["listed"], first["segmented"], first["failed"]) == (4, 3, 1)
    assert {row["key"]: row["iso"] for row in rows(output, "masks")} == {"a": 100, "b": None, "c": 400}
    assert summary(*flags)["skipped"] == 4

    storage.put_whole(f"{tmp_path}/again.csv", b"key,why\na,blurred\ngone,\nnobody,\n")
    storage.put_whole(f"{tmp_path}/in/gone.jpg", jpeg(photo(3)))
    again = [*flags, f"--only-keys={tmp_path}/again.csv"]
    second = summary(*again)
    assert (second["listed"], second["skipped"], second["segmented"]) == (2, 0, 2)
    assert second["ignored"] == {"unlisted keys": 1}
    assert (summary(*again)["skipped"], summary(*flags)["skipped"]) == (2, 4)
    assert sorted(key for key, _ in masks.read(output)) == names
    found = masks.verify(output)
    assert (found.segmented, found.failed, found.replaced) == (4, 0, 2)
    assert found.problems == found.unknown_columns == ()
