"""The images that each rule chooses of a few whose masks are known; the list is read by those it is for."""

import csv
import io
import json

import numpy as np
import pytest

from pipeline import storage
from pipeline.batch.only_keys import read_keys
from pipeline.commands.select import command as job
from pipeline.errors import ConfigError
from pipeline.exports.export import ExportConfig, export
from pipeline.exports.selection import SelectConfig, select
from pipeline.storage import Uri
from tests.helpers.outputs import failure, note, put_rows, row


def put_output(folder: str) -> str:
    """Write ten images, mostly of ground: "3,x" has most sky, 5 some tree, 7 both; the refiner changed 2 most."""
    info, network = note(), note(run=2, crf=None, generation="n")
    refined, before = [], []
    for n in range(10):
        mask = np.zeros((10, 10), np.uint8)
        if n in (3, 7):
            mask[: 4 if n == 3 else 2] = 2
        if n in (5, 7):
            mask[5:8] = 1
        key = "3,x\r" if n == 3 else f"{n}"
        refined.append(row(key, mask, info, confidence=0.5 + abs(n - 4) / 20))
        mask[9, : 5 if n == 2 else n // 3] = 1
        before.append(row(key, mask, network))
    put_rows(f"{folder}/out", network, before)
    later = note(run=3)
    put_rows(f"{folder}/out", later, refined)
    return f"{folder}/out"


@pytest.mark.parametrize(
    ("by", "count", "keys"),
    [
        ("uncertainty", 3, ["4", "3,x\r", "5"]),
        ("disagreement", 1, ["2"]),
        ("rare-class", 2, ["7", "3,x\r"]),
        ("diversity", 4, None),
    ],
)
def test_each_rule_chooses_what_it_says(tmp_path, by, count, keys):
    output, to = put_output(str(tmp_path)), f"{tmp_path}/list.csv"
    done = select(SelectConfig(output=Uri(output), count=count, by=by, to=Uri(to)))
    assert done.images == count
    written = [line["key"] for line in csv.DictReader(io.StringIO(storage.read_bytes(to).decode(), newline=""))]
    if keys is None:
        assert set(written[:3]) == {"7", "3,x\r", "5"} or {"7", "3,x\r"} < set(written)
        assert len({key if key in ("5", "7", "3,x\r") else "ground" for key in written}) == 4
    else:
        assert written == keys
    assert read_keys(to).keys.to_pylist() == written
    config = ExportConfig(output=Uri(output), to="png", destination=Uri(f"{tmp_path}/png"), keys=Uri(to))
    assert export(config).images == count


@pytest.mark.parametrize("by", ["uncertainty", "rare-class", "diversity"])
def test_of_images_that_all_failed_since_none_is_chosen(tmp_path, by):
    before, since = note(run=1), note(run=2)
    put_rows(f"{tmp_path}/out", before, [row("a", np.zeros((4, 4), np.uint8), before)])
    put_rows(f"{tmp_path}/out", since, [], [failure("a", since)])
    to = tmp_path / "list.csv"
    assert select(SelectConfig(output=Uri(f"{tmp_path}/out"), count=1, by=by, to=Uri(str(to)))).images == 0
    assert to.read_text() == '"key","score"\n'


def test_without_the_networks_masks_there_is_no_disagreement(tmp_path, capsys):
    info = note(run=1)
    put_rows(f"{tmp_path}/out", info, [row("a", np.zeros((4, 4), np.uint8), info)])
    config = SelectConfig(output=Uri(f"{tmp_path}/out"), count=1, by="disagreement", to=Uri(f"{tmp_path}/l.csv"))
    with pytest.raises(ConfigError, match="needs the masks of the network alone"):
        select(config)
    flags = [f"{tmp_path}/out", "--count", "9", "--by", "uncertainty", "--to"]
    assert job.main([*flags, f"{tmp_path}/list.txt"]) == 2
    assert job.main([*flags, f"{tmp_path}/list.csv"]) == 0
    assert json.loads(capsys.readouterr().out) == {"to": f"{tmp_path}/list.csv", "images": 1}
