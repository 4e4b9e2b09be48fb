"""The promises that every refiner keeps, the generations that follow from them, and how a refiner is added."""

import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline import masks
from pipeline.batch.config import generation
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.rows import LOGITS
from pipeline.batch.tracker import LocalTracker
from pipeline.data import rows
from pipeline.errors import ConfigError, CRFError
from pipeline.evaluation.scorer import NETWORK, REFINED, kinds
from pipeline.geometry import Geometry, aligned
from pipeline.logits import Floats, to_bytes, upsample
from pipeline.models import Inference
from pipeline.refine import (
    Argmax,
    Labelling,
    RefineConfig,
    Refinement,
    Refiner,
    TiledRefiner,
    make_refiner,
    noted,
)
from pipeline.refine.crf import PRUNE, CRFParams, DenseCRF
from pipeline.refine.crf.cuda import CudaCRF
from pipeline.refine.registry import REFINERS
from tests.helpers.photographs import logits_for, picture
from tests.helpers.pictures import jpeg

DIGEST = "0" * 64
RESNET_CRF = {"gaussian_weight": 3, "gaussian_xy": 1, "bilateral_weight": 4, "bilateral_xy": 67, "bilateral_rgb": 3}
VGG_CRF = {"gaussian_weight": 2, "gaussian_xy": 2, "bilateral_weight": 4, "bilateral_xy": 65, "bilateral_rgb": 3}


def refiner_called(backend: str, **settings: Any) -> Refiner:
    return make_refiner(RefineConfig(backend=backend, **settings), RESNET_CRF, 21)


def generation_with(refiner: Refiner) -> str:
    return generation(DIGEST, Inference(), refiner.fingerprint())


@pytest.mark.parametrize(
    ("backend", "params", "suited", "inference", "expected"),
    [
        ("none", None, RESNET_CRF, Inference(), "c5ec0309f6fe585d"),
        ("native", None, RESNET_CRF, Inference(), "12d72c64a9b89235"),
        ("native", CRFParams(), RESNET_CRF, Inference(), "dbf73de3057d4f14"),
        ("native", None, VGG_CRF, Inference(flip=True, scales=(0.5, 1.0)), "f58686c4b6619f16"),
        ("pydensecrf", CRFParams(iterations=5), {}, Inference(precision="float32"), "c31066ad2cbe731a"),
    ],
)
def test_outputs_of_earlier_versions_keep_their_generation(
    backend: str, params: CRFParams | None, suited: Mapping[str, Any], inference: Inference, expected: str
) -> None:
    refiner = make_refiner(RefineConfig(backend=backend, params=params), suited, 21)
    assert generation(DIGEST, inference, refiner.fingerprint()) == expected


def test_costs_for_other_labels_than_the_models_are_refused_before_the_run() -> None:
    config = RefineConfig(params=CRFParams(label_costs=(0, 1)))
    assert make_refiner(config, RESNET_CRF, 2).fingerprint()["crf"]["label_costs"] == [0, 1]
    with pytest.raises(ConfigError, match="label_costs are 2, and there are 21 labels"):
        make_refiner(config, RESNET_CRF, 21)


def test_backends_that_agree_share_a_generation_and_other_algorithms_do_not() -> None:
    native = refiner_called("native")
    on_gpu = native.on_gpu()
    assert isinstance(on_gpu, CudaCRF)
    same = [native, on_gpu, refiner_called("pydensecrf"), refiner_called("native", prune=0.0, device="cpu")]
    assert len({generation_with(refiner) for refiner in same}) == 1
    others = [native, Argmax(), Smallest(), refiner_called("native", params=CRFParams(iterations=5))]
    assert len({generation_with(refiner) for refiner in others}) == len(others)


@pytest.mark.parametrize("name", REFINERS)
def test_every_refiner_keeps_its_promises(name: str) -> None:
    refiner = pickle.loads(pickle.dumps(refiner_called(name)))
    images = [picture("coffee", 40, 50), picture("rocket", 30, 70), picture("chelsea", 40, 50)]
    logits = [logits_for(image, labels=4, seed=seed) for seed, image in enumerate(images)]
    together = refiner.refine(images, logits, aligned(8))
    for image, grid, refinement in zip(images, logits, together, strict=True):
        [alone] = refiner.refine([image], [grid], aligned(8))
        assert refinement.mask.shape == image.shape[:2]
        np.testing.assert_array_equal(alone.mask, refinement.mask)
        assert refinement.pixels.sum() == refinement.mask.size
        assert (refinement.posterior.shape, refinement.posterior.dtype) == (refinement.mask.shape, np.uint8)
        assert refinement.posterior.mean() / 255 == pytest.approx(refinement.confidence, abs=0.5 / 255)
    fingerprint = dict(refiner.fingerprint())
    assert fingerprint == json.loads(json.dumps(fingerprint))
    assert ("crf" in fingerprint) == (name in ("native", "pydensecrf", "none"))  # a name that no other takes
    assert 2**20 < refiner.memory(2) <= refiner.memory(182) < 2**33


def test_a_refiner_on_cpus_alone_is_refused_on_a_gpu() -> None:
    RefineConfig(device="cuda")
    for backend in ("pydensecrf", "none"):
        assert refiner_called(backend).on_gpu() is None
        with pytest.raises(ConfigError, match=f"device is cuda and refine.backend {backend}, which has no CUDA path"):
            RefineConfig(backend=backend, device="cuda")


def test_an_unknown_refiner_and_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no refine.backend 'quantum'; choose from: native, pydensecrf, none"):
        RefineConfig(backend="quantum")
    with pytest.raises(ConfigError, match="prune is 2"):
        DenseCRF(prune=2.0)
    for prune in (7.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=f"prune is {prune}; it is a probability, from 0 to 1"):
            RefineConfig(backend="none", prune=prune)


def test_the_gpu_is_opened_by_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refiner = pickle.loads(pickle.dumps(CudaCRF(CRFParams(), PRUNE)))
    image = picture()
    with pytest.raises(CRFError, match="needs a CUDA device, and PyTorch sees none"):
        refiner.refine([image], [logits_for(image)], aligned(8))


class Smallest(TiledRefiner):
    """A refiner to add: it takes the worst label of each pixel."""

    def label(
        self, image: NDArray[np.uint8], logits: Floats, geometry: Geometry, top: int = 0, left: int = 0
    ) -> Labelling:
        height, width = image.shape[:2]
        full = upsample(logits, height, width, geometry, top, left)
        return Labelling(full.argmin(axis=0).astype(np.uint8), full.min(axis=0), kept=len(logits))

    def fingerprint(self) -> dict[str, Any]:
        return {"smallest": {}}


class Constant(Refiner):
    """A refiner without tiles."""

    def __init__(self, label: int) -> None:
        self._label = label

    def refine(
        self, images: Sequence[NDArray[np.uint8]], logits: Sequence[Floats], geometry: Geometry
    ) -> list[Refinement]:
        return [self._mask(image.shape[:2], len(grid)) for image, grid in zip(images, logits, strict=True)]

    def _mask(self, size: tuple[int, ...], labels: int) -> Refinement:
        mask = np.full(size, self._label, np.uint8)
        pixels = np.bincount(mask.ravel(), minlength=labels)
        return Refinement(
            mask=mask,
            posterior=np.full(size, 255, np.uint8),
            confidence=1.0,
            pixels=pixels,
            class_confidence=(pixels > 0).astype(np.float32),
            kept=1,
        )

    def fingerprint(self) -> dict[str, Any]:
        return {"constant": {"label": self._label}}

    def memory(self, labels: int) -> int:
        return 2**28


def test_a_refiner_is_added_by_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REFINERS, "smallest", lambda _config, _suited: Smallest())
    monkeypatch.setitem(REFINERS, "constant", lambda _config, _suited: Constant(2))
    image = picture("coffee", 40, 50)
    logits = np.full((3, 6, 8), 0, np.float16)
    logits[0, :, :4], logits[1, :, 4:] = -9, -9
    batch = rows.table([{"key": "a", "image": jpeg(image), "logits": to_bytes(logits), "shape": logits.shape}], LOGITS)
    masks_by_name = {}
    for name in ("smallest", "constant"):
        refiner = pickle.loads(pickle.dumps(refiner_called(name)))
        stage = RefineStage(refiner, ("a", "b", "c"), masks.pascal_palette(3), aligned(8), 10_000, LocalTracker())
        [row] = pa.concat_tables(stage(batch)).to_pylist()
        assert row["error"] is None
        masks_by_name[name] = masks.decode(row["mask"]["bytes"])
        assert refiner.memory(21) > 0
        assert list(kinds(refiner)) == [NETWORK, REFINED]
    assert set(np.unique(masks_by_name["smallest"][:, :25])) == {0}
    assert set(np.unique(masks_by_name["smallest"][:, 33:])) == {1}
    assert set(np.unique(masks_by_name["constant"])) == {2}
    all_of_them = [refiner_called(name) for name in ("native", "none", "smallest", "constant")]
    assert len({generation_with(refiner) for refiner in all_of_them}) == 4
    assert [noted(refiner) for refiner in all_of_them[1:]] == [None, {"smallest": {}}, {"constant": {"label": 2}}]
    assert noted(all_of_them[0]) == CRFParams(**RESNET_CRF).fingerprint()["crf"]


def test_a_fingerprint_without_a_name_of_its_own_is_refused() -> None:
    for fingerprint in ({}, {"model": DIGEST}):
        with pytest.raises(ConfigError, match="a name of its own"):
            generation(DIGEST, Inference(), fingerprint)
