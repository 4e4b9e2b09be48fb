"""The Scorer as a plain class: what it counts, before and after the CRF, and what failed on the way."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.batch.isolation import MAX_ATTEMPTS
from pipeline.batch.rows import LOGITS
from pipeline.batch.tracker import LocalTracker
from pipeline.data import rows
from pipeline.errors import ImageError
from pipeline.evaluation.labelled import Labelled
from pipeline.evaluation.mask_counts import COUNTED, Counting, MaskCounts
from pipeline.evaluation.scorer import NETWORK, REFINED, Scorer, kinds, refine_stages
from pipeline.geometry import Geometry, aligned, half_pixels
from pipeline.logits import to_bytes
from pipeline.refine import Argmax
from pipeline.refine.crf import CRFParams, DenseCRF
from tests.helpers.labelled import pair, png
from tests.helpers.pictures import photo

KEYS = ("a", "b", "c")
ALIGNED = aligned(8)
CRF = DenseCRF(CRFParams(bilateral_xy=20, bilateral_rgb=9))
HOW = Counting(classes=3, band="borders")


@dataclass
class Model:
    classes = ("ground", "tree", "sky")
    palette = np.zeros((3, 3), np.uint8)
    geometry: Geometry = ALIGNED


class Pairs:
    """A dataset of generated pairs."""

    def pair(self, index):
        return photo(index, 48, 64), pair(index)[1]


def logits_of(index, geometry=ALIGNED):
    return np.random.default_rng(index).normal(size=(3, *geometry.grid(48, 64))).astype(np.float16)


def batch(failed=(), geometry=ALIGNED):
    images = []
    for index, key in enumerate(KEYS):
        identity = {"key": key, "source": key, "version": ""}
        if key in failed:
            images.append(identity | rows.failure("decode", ImageError("broken")))
        else:
            logits = logits_of(index, geometry)
            image = png(photo(index, 48, 64))
            images.append(identity | {"image": image, "logits": to_bytes(logits), "shape": logits.shape})
    return rows.table(images, LOGITS)


def scored(refiners, batch, tracker, geometry=ALIGNED):
    labelled = Labelled(dataset=Pairs(), keys=KEYS)
    return Scorer(refine_stages(refiners, Model(geometry), 10_000), labelled, HOW, tracker)(batch)


def counted(refiner, batch, geometry=ALIGNED):
    table = scored(kinds(refiner), batch, LocalTracker(), geometry)
    assert table.schema.equals(COUNTED)
    return {row["masks"]: row for row in table.to_pylist()}


def expected(refiner, indices):
    counts = MaskCounts(HOW)
    for index in indices:
        image, truth = Pairs().pair(index)
        [refinement] = refiner.refine([image], [logits_of(index)], ALIGNED)
        counts.update(KEYS[index], truth, refinement.mask)
    return counts.to_row("")


@pytest.mark.parametrize(("refiner", "names"), [(Argmax(), [NETWORK]), (CRF, [NETWORK, REFINED])])
def test_each_kind_of_mask_is_counted(refiner, names):
    rows_by_kind = counted(refiner, batch())
    assert list(rows_by_kind) == names
    for kind, row in rows_by_kind.items():
        counts = expected(CRF if kind == REFINED else Argmax(), range(3))
        assert row["matrix"] == counts["matrix"].tolist()
        assert row["trimap"] == counts["trimap"].tolist()
        assert (row["keys"], row["failed"]) == (["a", "b", "c"], [])
        np.testing.assert_array_equal(row["border"], counts["border"])
    if refiner is CRF:
        assert rows_by_kind[NETWORK]["matrix"] != rows_by_kind[REFINED]["matrix"]


def test_logits_lie_where_the_network_says():
    """As the framework upsamples them by itself, of half pixels."""
    geometry, counts = half_pixels(8), MaskCounts(HOW)
    for index, key in enumerate(KEYS):
        logits = torch.from_numpy(logits_of(index, geometry).astype(np.float32))[None]
        full = functional.interpolate(logits, size=(48, 64), mode="bilinear", align_corners=False)[0]
        counts.update(key, Pairs().pair(index)[1], full.argmax(dim=0).numpy().astype(np.uint8))
    row = counted(Argmax(), batch(geometry=geometry), geometry=geometry)[NETWORK]
    assert row["matrix"] == counts.to_row("")["matrix"].tolist()


def test_what_failed_is_named_and_not_counted():
    for row in counted(CRF, batch(failed=["b"])).values():
        assert (row["keys"], row["failed"]) == (["a", "c"], ["b: broken"])
    assert counted(Argmax(), batch(failed=["b"]))[NETWORK]["matrix"] == expected(Argmax(), (0, 2))["matrix"].tolist()


class WorkerKilled(BaseException):
    """Stands for the death of the process: nothing after it runs."""


class Deadly(Argmax):
    """Dies of picture b."""

    def refine(self, images, logits, geometry):
        if any((image == photo(1, 48, 64)).all() for image in images):
            raise WorkerKilled
        return super().refine(images, logits, geometry)


@pytest.mark.parametrize("where", [NETWORK, REFINED, "counting"])
def test_a_picture_that_takes_its_worker_down_is_given_up_wherever_it_does(where, monkeypatch):
    """The batch is repeated, as Ray repeats the task of a dead actor."""
    update = MaskCounts.update

    def deadly(counts, key, truth, mask):
        if key == "b":
            raise WorkerKilled
        update(counts, key, truth, mask)

    refiners = kinds(CRF)
    if where == "counting":
        monkeypatch.setattr(MaskCounts, "update", deadly)
    else:
        refiners[where] = Deadly()
    tracker = LocalTracker()
    for _ in range(MAX_ATTEMPTS):  # of three, alone
        with pytest.raises(WorkerKilled):
            scored(refiners, batch(), tracker)
    for row in scored(refiners, batch(), tracker).to_pylist():
        assert sorted(row["keys"]) == ["a", "c"]
        [failed] = row["failed"]
        assert failed.startswith("b: the worker died")
