"""Outputs of other schema versions: today's columns as they were first written, stored otherwise, lacking or added."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import masks, storage
from pipeline.batch import ledger
from pipeline.commands.verify import command as verify_output
from pipeline.data import rows
from pipeline.errors import StorageError
from tests.helpers.dataset import undone
from tests.helpers.segmenting import summary

ROOT = Path(__file__).parents[1]
VERSION_1 = ROOT / "tests/samples/output_version_1"
"""An output of the first schema, which no file names by a number, and the four images it is of; one of them is cut."""

BUCKET = "s3://output-of-version-1"
"""Where it was written, from BUCKET/in to BUCKET/out."""

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return Path(shutil.copytree(VERSION_1 / "output", tmp_path / "output"))


def the_file(output: Path, folder: str) -> Path:
    [path] = (output / folder).iterdir()
    return path


def rewrite(path: Path, change: Change, **note_changes: object) -> None:
    """Write a file anew with other columns; its note, which pandas would lose, is kept but for the changes."""
    table = pq.read_table(path)
    note = json.dumps(json.loads(table.schema.metadata[b"segmentation"]) | note_changes).encode()
    changed = change(table)
    pq.write_table(changed.replace_schema_metadata((changed.schema.metadata or {}) | {b"segmentation": note}), path)


def done(output: Path) -> int:
    """How many of the four images the ledger counts as done."""
    [info] = masks.generations(str(output))
    listed = [row for folder in ("masks", "errors") for row in pq.read_table(VERSION_1 / "output" / folder).to_pylist()]
    manifest = [{"key": row["key"], "version": row["version"]} for row in listed]
    return len(manifest) - undone(ledger.load(str(output), info), rows.table(manifest, rows.MANIFEST)).num_rows


def test_the_first_schema_is_read_and_sound_and_left_where_it_is(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def files() -> dict[Path, bytes]:
        return {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}

    before = files()
    assert sorted((key, mask.shape) for key, mask in masks.read(str(output))) == [
        (f"{n}.jpg", (60, 80)) for n in range(3)
    ]
    [info] = masks.generations(str(output))
    assert info.schema_version == 1
    assert verify_output.main([str(output), "--repair"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "files": 2,
        "segmented": 3,
        "failed": 1,
        "replaced": 0,
        "unknown_columns": [],
        "problems": 0,
    }
    assert files() == before
    assert done(output) == 4


@pytest.mark.usefixtures("cluster")
def test_a_rerun_over_an_output_of_the_first_schema_has_nothing_to_do(s3_endpoint: str) -> None:
    storage.filesystem(BUCKET)[0].mkdir(BUCKET.removeprefix("s3://"))
    for below, folder in (("in", "input"), ("out", "output")):
        for path in (VERSION_1 / folder).rglob("*.*"):
            storage.put_whole(f"{BUCKET}/{below}/{path.relative_to(VERSION_1 / folder)}", path.read_bytes())
    forecast = summary("--input", f"{BUCKET}/in", "--output", f"{BUCKET}/out", "--dry-run")
    [info] = masks.generations(f"{BUCKET}/out")
    assert (forecast["listed"], forecast["skipped"], forecast["to_do"]) == (4, 4, 0)
    assert forecast["generation"] == info.generation


def reversed_columns(table: pa.Table) -> pa.Table:
    return table.select(table.column_names[::-1])


def large(table: pa.Table) -> pa.Table:
    """Every text, all bytes and every list in Arrow's types with offsets of 64 bits."""

    def wide(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_struct(kind):
            return pa.struct([(field.name, wide(field.type)) for field in kind])
        if pa.types.is_list(kind):
            return pa.large_list(wide(kind.value_type))
        return {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(kind, kind)

    return table.cast(pa.schema([(field.name, wide(field.type)) for field in table.schema]))


def dictionary_encoded(table: pa.Table) -> pa.Table:
    columns = [c.dictionary_encode() if c.type == pa.string() else c for c in table.columns]
    return pa.table(columns, names=table.column_names)


def through_pandas(table: pa.Table) -> pa.Table:
    """With an index that pandas keeps in a column of its own."""
    frame = table.to_pandas()
    frame.index = pd.Index([5, 2, 9][: len(frame)])
    changed = pa.Table.from_pandas(frame)
    assert "__index_level_0__" in changed.column_names
    assert b"pandas" in changed.schema.metadata
    return changed


def required_only(table: pa.Table) -> pa.Table:
    needed = ("key", "version", "height", "width", "mask", "classes")
    return table.select([name for name in table.column_names if name in needed])


def with_a_column(table: pa.Table) -> pa.Table:
    return table.add_column(3, "reviewed_by", [["somebody"] * len(table)])


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        (reversed_columns, []),
        (large, []),
        (dictionary_encoded, []),
        (required_only, []),
        (through_pandas, ["__index_level_0__"]),
        (with_a_column, ["reviewed_by"]),
    ],
)
@pytest.mark.parametrize("note", [{}, {"schema_version": 1}, {"schema_version": 9, "a_later_field": [1]}])
def test_columns_stored_otherwise_are_as_good(
    output: Path, change: Change, unknown: list[str], note: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    before = dict(masks.read(str(output)))
    for folder in ("masks", "errors"):
        rewrite(the_file(output, folder), change, **note)
    after = dict(masks.read(str(output)))
    assert after.keys() == before.keys()
    for key, mask in before.items():
        np.testing.assert_array_equal(after[key], mask)
    assert verify_output.main([str(output), "--repair"]) == 0
    assert json.loads(capsys.readouterr().out)["unknown_columns"] == unknown
    assert not (output / "_quarantine").exists()
    assert done(output) == 4
    [info] = masks.generations(str(output))
    assert info.schema_version == note.get("schema_version", 1)


def test_a_file_that_pandas_has_written_anew_is_named_and_left_where_it_is(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its rows are whole; pandas has lost the note, and without it no reader knows their classes and generation."""
    path = the_file(output, "masks")
    pd.read_parquet(path).to_parquet(path)
    assert verify_output.main([str(output), "--repair"]) == 1
    told = (
        f"{path}: no 'segmentation' note in the file's metadata: another program wrote it, or wrote it anew as pandas"
    )
    assert told in capsys.readouterr().err
    assert path.exists()
    with pytest.raises(StorageError, match="put it back as it was, or move it away and run the job again"):
        masks.generations(str(output))


def without(name: str) -> Change:
    return lambda table: table.drop_columns([name])


def twice(name: str) -> Change:
    return lambda table: table.append_column(name, table[name])


def replaced(name: str, values: list[object]) -> Change:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, [values[: len(table)]])

    return change


@pytest.mark.parametrize(
    ("folder", "change", "message"),
    [
        *(
            ("masks", without(name), f"it must have one column {name}, and has 0; its columns are ")
            for name in ("key", "version", "height", "width", "mask", "classes")
        ),
        ("errors", without("key"), "it must have one column key, and has 0"),
        ("errors", without("version"), "it must have one column version, and has 0"),
        ("masks", twice("key"), "it must have one column key, and has 2"),
        ("masks", replaced("height", ["60"] * 3), "its column height is string, which cannot be read as int32"),
        ("masks", replaced("mask", [b"png"] * 3), "its column mask is binary, which cannot be read as struct"),
        ("masks", replaced("mask", [{"path": "a"}] * 3), "its column mask is struct<path: string>, which cannot"),
        ("masks", replaced("classes", [[1]] * 3), "its column classes is list<element: int64>, which cannot"),
        ("masks", replaced("key", ["a", None, "c"]), "a row without a key or a version: key None"),
        ("errors", replaced("version", [pa.scalar(None, pa.string())]), "a row without a key or a version: key 'cut"),
        ("masks", replaced("mask", [None, {"bytes": b"x"}, {"bytes": None}]), "not a readable PNG"),
        ("masks", replaced("classes", [None, [{"id": 0, "pixels": 1}], []]), "other classes or pixels"),
    ],
)
def test_columns_that_cannot_be_read_are_named_and_set_aside(
    output: Path, folder: str, change: Change, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = the_file(output, folder)
    rewrite(path, change)
    assert verify_output.main([str(output), "--repair"]) == 1
    assert f"{path.name}: " in (errors := capsys.readouterr().err)
    assert message in errors
    assert [p.name for p in (output / "_quarantine" / folder).iterdir()] == [path.name]


NEW_COLUMN = """
import sys
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pipeline import masks
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.rows import LOGITS
from pipeline.batch.sink import write_files
from pipeline.batch.tracker import LocalTracker
from pipeline.data import rows
from pipeline.geometry import aligned
from pipeline.logits import to_bytes
from pipeline.masks import schema
from pipeline.refine import Argmax
from tests.helpers.dataset import info
from tests.helpers.pictures import jpeg, photo

assert schema.__file__.startswith(sys.argv[2])
output = sys.argv[1]
old = len(list(masks.read(output)))
logits = np.zeros((3, 4, 5), np.float16)
row = {"source": "s", "version": "1", "digest": "d", "logits": to_bytes(logits), "shape": logits.shape}
both = [row | {"key": "new", "image": jpeg(photo(0, 25, 33))}, row | {"key": "bad", "image": b"x"}]
stage = RefineStage(Argmax(), info().classes, np.array(info().palette, np.uint8), aligned(8), 10_000, LocalTracker())
write_files(output, "new.parquet", info(), pa.concat_tables(stage(rows.table(both, LOGITS))))
written = pq.read_table(f"{output}/masks/new.parquet")
assert written["labels_as_bytes"].to_pylist() == [bytes(25 * 33)]
assert masks.DatasetInfo.from_metadata(written.schema.metadata).schema_version == masks.SCHEMA_VERSION
generations = [(note.generation, note.schema_version) for note in masks.generations(output)]
assert len(generations) == 2 and {version for _, version in generations} == {1, masks.SCHEMA_VERSION}, generations
assert sum(len(list(masks.read(output, generation))) for generation, _ in generations) == old + 1
verification = masks.verify(output)
assert (verification.segmented, verification.failed) == (old + 1, 2)
assert verification.problems == verification.unknown_columns == ()
"""

NEW_LINES = {
    "masks/schema.py": {
        f"SCHEMA_VERSION = {masks.SCHEMA_VERSION}\n": f"SCHEMA_VERSION = {masks.SCHEMA_VERSION + 1}\n",
        '        ("digest", pa.string()),\n': '("digest", pa.string()), ("labels_as_bytes", pa.binary()),\n',
    },
    "batch/mask_columns.py": {
        '            "confidence": refinement.confidence,\n': (
            '"confidence": refinement.confidence, "labels_as_bytes": refinement.mask.tobytes(),\n'
        ),
    },
}
"""What a newcomer changes, file by file."""


def test_a_new_column_is_two_lines_of_the_schema_and_one_of_a_stage(output: Path, tmp_path: Path) -> None:
    """With a copy of the code in which nothing else differs."""
    shutil.copytree(ROOT / "pipeline", tmp_path / "code/pipeline", ignore=shutil.ignore_patterns("weights", "*.so"))
    shutil.copytree(ROOT / "tests/helpers", tmp_path / "code/tests/helpers")
    for file, lines in NEW_LINES.items():
        path = tmp_path / "code/pipeline" / file
        text = path.read_text()
        for line, changed in lines.items():
            assert text.count(line) == 1
            text = text.replace(line, changed)
        path.write_text(text)
    command = [sys.executable, "-c", NEW_COLUMN, str(output), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path / "code", env={"PYTHONPATH": "."}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    verification = masks.verify(str(output))  # by the code that does not know the column
    assert verification.problems == ()
    assert verification.unknown_columns == ("labels_as_bytes",)
    assert len(list(masks.read(str(output), "g"))) == 1
