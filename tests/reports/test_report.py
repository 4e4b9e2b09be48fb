"""What a report is made of: statistics in one pass, pictures worth a look, notes of runs; without a browser."""

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import masks, storage
from pipeline.commands.report import command as job
from pipeline.data.pictures import Picture, Pictures
from pipeline.errors import ConfigError
from pipeline.masks import MaskRows
from pipeline.masks.choosing import Highest, chances
from pipeline.reports.report import ReportConfig, report
from pipeline.reports.runs import run_notes
from pipeline.reports.shortlist import PICTURES, Shortlist
from pipeline.reports.statistics import Statistics
from pipeline.storage import Uri
from pipeline.storage.s3_pages import Listed
from tests.helpers.outputs import blocks, failure, note, put_rows, put_tar, row
from tests.helpers.pictures import jpeg, photo

ROOT = Path(__file__).parents[2]


def data(page: str) -> dict[str, Any]:
    """Read what a report hands to its script."""
    found = re.search(r'id="data">(.*?)</script>', Path(page).read_text(), re.DOTALL)
    assert found
    values: dict[str, Any] = json.loads(found[1])
    return values


def test_of_a_key_the_newest_row_counts(tmp_path):
    first, second = note(run=1), note(run=2)
    put_rows(f"{tmp_path}", first, [row("a", blocks(0), first), row("b", blocks(1), first)], [failure("c", first)])
    put_rows(f"{tmp_path}", second, [row("c", blocks(2), second)], [failure("b", second)])
    rows = list(masks.newest_rows(masks.generation_files(f"{tmp_path}")))
    found = {key: rows_.place(i) for rows_ in rows if isinstance(rows_, MaskRows) for i, key in enumerate(rows_.keys)}
    assert found.keys() == {"a", "c"}
    assert [failed.key for failed in rows if not isinstance(failed, MaskRows)] == ["b"]
    pngs = dict(masks.read_pngs(found.values()))
    for key, seed in (("a", 0), ("c", 2)):
        np.testing.assert_array_equal(masks.decode(pngs[found[key]]), blocks(seed))


def test_chosen_masks_of_many_row_groups_are_read(tmp_path):
    info = note()
    put_rows(f"{tmp_path}", info, [row(str(n), blocks(n), info) for n in range(40)])
    (rows,) = masks.newest_rows(masks.generation_files(f"{tmp_path}"))
    assert isinstance(rows, MaskRows)
    chosen = [rows.place(n) for n in (39, 3, 17)]
    found = dict(masks.read_pngs(chosen))
    for place in chosen:
        np.testing.assert_array_equal(masks.decode(found[place]), blocks(place.row))
    with pytest.raises(Exception, match="has 40 rows, and row 40 was listed"):
        list(masks.read_pngs([masks.Place(rows.uri, 40)]))


def test_statistics_are_those_of_all_rows(tmp_path):
    info = note()
    drawn = [blocks(n) for n in range(3)]
    drawn[0][:] = 1
    rows = [row(str(n), mask, info, confidence=0.2 + 0.3 * n) for n, mask in enumerate(drawn)]
    put_rows(f"{tmp_path}", info, rows, [failure(str(n), info, error="E" if n else "F") for n in range(60)])
    statistics = Statistics(info.classes)
    for found in masks.newest_rows(masks.generation_files(f"{tmp_path}")):
        (statistics.add if isinstance(found, MaskRows) else statistics.add_failure)(found)
    np.testing.assert_array_equal(statistics.pixels, np.bincount(np.concatenate(drawn).ravel(), minlength=3))
    assert statistics.occurrences.tolist() == [2, 3, 2]
    assert statistics.confidence == pytest.approx(0.5)
    np.testing.assert_allclose(statistics.class_confidence, [0.65, 0.5, 0.65])
    assert statistics.histogram.nonzero()[0].tolist() == [4, 10, 16]
    assert [(cause.error, cause.count, len(cause.keys)) for cause in statistics.causes] == [("E", 59, 50), ("F", 1, 1)]


def test_the_highest_of_batches_are_the_highest_of_all():
    scores = np.random.default_rng(0).random(1000).round(2)
    scores[::7] = np.nan
    kept: Highest[int] = Highest(50)
    for start in range(0, 1000, 64):
        kept.offer(scores[start : start + 64], lambda index, start=start: start + index)
    known = np.nan_to_num(scores, nan=-1)
    assert list(kept) == np.argsort(-known, kind="stable")[:50].tolist()


def test_a_random_sample_is_spread_over_the_keys():
    drawn = chances([f"images/{n:06d}.jpg" for n in range(20_000)])
    counts, _ = np.histogram(drawn, 10, (0, 1))
    assert counts.min() > 1800
    first = np.flatnonzero(drawn > np.sort(drawn)[-200]) < 10_000
    assert 60 < first.sum() < 140


def test_the_shortlist_has_each_reason_and_no_more_than_fit(tmp_path):
    info = note(classes=tuple(map(str, range(40))), palette=((0, 0, 0),) * 40)
    rng = np.random.default_rng(0)
    drawn = [(rng.random(), blocks(n, classes=40)) for n in range(600)]
    rows = [row(f"{n:03}", mask, info, confidence=confidence) for n, (confidence, mask) in enumerate(drawn)]
    for label in (label for one in rows for label in one["classes"]):
        label["confidence"] = rng.random()
    put_rows(f"{tmp_path}", info, rows)
    shortlist = Shortlist(40)
    for found in masks.newest_rows(masks.generation_files(f"{tmp_path}")):
        assert isinstance(found, MaskRows)
        shortlist.add(found)
    chosen = shortlist.chosen([])
    assert len(chosen) == len({image.key for image in chosen}) == PICTURES
    lowest = sorted(range(600), key=lambda n: drawn[n][0])[:60]
    assert [int(image.key) for image in chosen if "lowest" in image.reasons] == lowest
    counts = {reason: sum(reason in image.reasons for image in chosen) for reason in ("least", "most", "random")}
    assert min(counts.values()) >= 30


def test_pictures_of_shards_are_found_and_others_are_said_to_be_gone(tmp_path):
    info = note(input=f"{tmp_path}/in")
    pictures = {f"{n}": jpeg(photo(n)) for n in range(3)}
    put_tar(f"{tmp_path}/in/s.tar", {f"{name}.jpg": picture for name, picture in pictures.items()})
    rows = [
        row(f"s.tar/{name}", blocks(0), info, picture) | {"source": f"{tmp_path}/in/s.tar"}
        for name, picture in (pictures | {"gone": b"?"}).items()
    ]
    rows[1]["digest"] = "0" * 64
    (tmp_path / "in/unpacked.tar").mkdir()
    rows.append(row("unpacked.tar/0", blocks(0), info, b"?") | {"source": f"{tmp_path}/in/unpacked.tar"})
    put_rows(f"{tmp_path}/out", info, rows)
    storage.put_whole(
        f"{tmp_path}/out/_runs/{info.run_id}/summary.json",
        b'{"generation": "g", "segmented": "<4>", "plan": [], "node_seconds": {"gpu": 1e3, "x": null}}',
    )
    storage.put_whole(f"{tmp_path}/out/_runs/{info.run_id}/config.yaml", b"{damaged")
    images = {i["key"]: i for i in data(report(ReportConfig(output=Uri(f"{tmp_path}/out"))).report)["images"]}
    assert images["s.tar/0"]["image"].startswith("data:image/webp;base64,")
    assert "has changed" in images["s.tar/1"]["problem"]
    assert "holds no image 's.tar/gone'" in images["s.tar/gone"]["problem"]
    assert "is an empty folder now" in images["unpacked.tar/0"]["problem"]
    assert all(image["after"].startswith("data:image/png") for image in images.values())


def test_pictures_of_a_shard_are_found_where_a_folder_has_its_name(bucket, monkeypatch):
    picture = jpeg(photo(0))
    put_tar(f"{bucket}/in/s.tar", {"a.jpg": picture})
    monkeypatch.setattr("pipeline.storage.listing.list_objects", lambda *_: [[Listed("in/s.tar/y.jpg", 1, "e")]])
    wanted = Picture(key="s.tar/a", source=f"{bucket}/in/s.tar", digest=hashlib.sha256(picture).hexdigest())
    assert list(Pictures(noted=f"{bucket}/in").fetch([wanted])) == [(wanted, picture)]


def test_runs_are_told_in_the_order_of_their_rows_whatever_the_clock_said(tmp_path):
    """The first run's clock was two hours ahead, so that the second has dated its files right behind the first's."""
    ahead = note(run_id="20260102T050000-aaaaaa", created="2026-01-02T05:00:00+00:00")
    later = note(run_id="20260102T040000-bbbbbb", created="2026-01-02T05:00:00.000001+00:00")
    for info in (ahead, later):
        put_rows(f"{tmp_path}", info, [row("a", blocks(0), info)])
    for run in ("20260102T030000-cccccc", "20260102T060000-dddddd", ahead.run_id, later.run_id):
        storage.put_whole(f"{tmp_path}/_runs/{run}/summary.json", b"{}")
    told = [run.run_id[-1] for run in run_notes(f"{tmp_path}", masks.generation_files(f"{tmp_path}"))]
    assert told == ["d", "b", "a", "c"]


def test_pictures_of_tables_are_found_by_the_columns_that_the_run_has_read(tmp_path):
    info = note(input=f"{tmp_path}/in", image_column="photo")
    pictures = [jpeg(photo(n)) for n in range(3)]
    columns = {"photo": pictures, "other": [b"?"] * 3, "name": ["a", "b", "c"], "id": ["0", "1", "2"]}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    storage.put_whole(f"{tmp_path}/in/t.parquet", buffer.getvalue())
    source = {"source": f"{tmp_path}/in/t.parquet"}
    rows = [row(f"t.parquet/{name}", blocks(0), info, pictures[n]) | source for n, name in enumerate("abc")]
    put_rows(f"{tmp_path}/out", info, rows)
    storage.put_whole(f"{tmp_path}/out/_runs/{info.run_id}/config.yaml", b"key_column: name\n")
    images = data(report(ReportConfig(output=Uri(f"{tmp_path}/out"))).report)["images"]
    assert sorted(image["key"] for image in images if not image["problem"]) == [f"t.parquet/{name}" for name in "abc"]


def test_a_picture_that_a_list_has_named_is_found_wherever_it_is(tmp_path):
    info = note(input=f"{tmp_path}/lists")
    storage.put_whole(f"{tmp_path}/elsewhere/a b", jpeg(photo(0)))  # no suffix says what it is
    named = row("seven", blocks(0), info, jpeg(photo(0))) | {"source": f"{tmp_path}/elsewhere/a b"}
    put_rows(f"{tmp_path}/out", info, [named])
    (image,) = data(report(ReportConfig(output=Uri(f"{tmp_path}/out"))).report)["images"]
    assert (image["key"], image["problem"]) == ("seven", "")


def test_pictures_that_have_moved_are_found_where_they_are_said_to_be(tmp_path):
    info = note(input="s3://gone/in")
    storage.put_whole(f"{tmp_path}/moved/x/a.jpg", jpeg(photo(0)))
    put_rows(f"{tmp_path}/out", info, [row("x/a.jpg", blocks(0), info, jpeg(photo(0)))])
    config = ReportConfig(output=Uri(f"{tmp_path}/out"), input=Uri(f"{tmp_path}/moved"))
    (image,) = data(report(config).report)["images"]
    assert image["problem"] == ""


def test_the_page_has_at_most_20_mb(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.reports.gallery._PICTURE_BYTES", 60_000)
    info = note(input=f"{tmp_path}/in")
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(noise))
    put_rows(f"{tmp_path}/out", info, [row("a.jpg", blocks(0, 600, 800), info, jpeg(noise))])
    (image,) = data(report(ReportConfig(output=Uri(f"{tmp_path}/out"))).report)["images"]
    assert 0 < len(image["image"]) + len(image["after"]) <= 60_000


def test_a_generation_of_the_network_alone_is_found_and_another_network_is_refused(tmp_path):
    info, network = note(run=2), note(run=1, crf=None, generation="n")
    changed = blocks(0)
    changed[:15] = 0
    changed[15:30] = 1
    before = changed.copy()
    before[:15] = 2
    put_rows(f"{tmp_path}/out", info, [row("a", changed, info)])
    put_rows(f"{tmp_path}/out", network, [row("a", before, network)])
    (image,) = data(report(ReportConfig(output=Uri(f"{tmp_path}/out"))).report)["images"]
    assert image["disagreement"] == pytest.approx(0.25)
    assert "disagreement" in image["reasons"]
    other = note(crf=None, model_digest="e" * 64)
    put_rows(f"{tmp_path}/other", other, [row("a", changed, other)])
    with pytest.raises(ConfigError, match="other weights"):
        report(ReportConfig(output=Uri(f"{tmp_path}/out"), network=Uri(f"{tmp_path}/other")))


def test_the_job_goes_through_a_bucket_without_ray(bucket, capsys, tmp_path):
    info = note(input=f"{bucket}/in")
    storage.put_whole(f"{bucket}/in/a.jpg", jpeg(photo(0)))
    put_rows(f"{bucket}/out", info, [row("a.jpg", blocks(0), info, jpeg(photo(0)))])
    assert job.main([f"{bucket}/out"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["report"] == f"{bucket}/out/report.html"
    assert len(storage.read_bytes(summary["report"])) == summary["bytes"]
    assert job.main([f"{tmp_path}/nothing"]) == 1
    assert "cannot list" in capsys.readouterr().err
    heavy = "{'ray', 'torch', 'matplotlib'} & sys.modules.keys()"
    check = f"import sys, pipeline.commands.report; sys.exit(' '.join({heavy}) or None)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0
