"""jobs/evaluate.py and jobs/search_crf.py on a real Ray instance, their data and what they put on a real S3 server."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline import models, storage
from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.run import segment
from pipeline.cli import parse
from pipeline.commands.evaluate import command as evaluate
from pipeline.commands.search_crf import command as search_crf
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.trimap import TrimapCurve
from pipeline.metrics import SegmentationScore
from pipeline.models import Inference, Predictor
from pipeline.refine import Argmax, RefineConfig
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.scenes import CLASSES as SCENE_CLASSES
from pipeline.scenes import scene
from pipeline.storage import Uri
from tests.helpers.labelled import CLASSES, palette_png, png, put_camvid, put_parquet
from tests.helpers.servers import new_bucket

pytestmark = pytest.mark.usefixtures("cluster")

PLANTED = CRFParams(gaussian_weight=2, gaussian_xy=2, bilateral_weight=8, bilateral_xy=40, bilateral_rgb=9)
SIZES = ((96, 64), (80, 60), (96, 64), (72, 90))
EXACT = "--inference.precision=float32"


def job(main: Callable[[list[str]], int], *flags: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, summary and messages of a job."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(list(flags))
    return code, json.loads(out.getvalue().splitlines()[-1]) if code == 0 else {}, err.getvalue()


def put(root: str, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    storage.put_whole(f"{root}/val/{name}.png", png(image))
    storage.put_whole(f"{root}/valannot/{name}.png", palette_png(mask))


@pytest.fixture(scope="module")
def scenes(cluster: None) -> str:
    """Four generated scenes of different sizes in CamVid's layout, some void in each."""
    bucket = new_bucket()
    for seed, size in enumerate(SIZES):
        image, mask = scene(seed, size)
        mask[:3, ::2] = 255
        put(f"{bucket}/data", f"{seed:03d}", image, mask)
    return bucket


def flags_for(data: str) -> tuple[str, ...]:
    return f"--data={data}", "--data-format=camvid", f"--classes={json.dumps(SCENE_CLASSES)}"


@pytest.fixture(scope="module")
def of_model(scenes: str) -> dict[str, Any]:
    flags = (*flags_for(f"{scenes}/data"), "--model=scenes", f"--output={scenes}/scores", "--trimap=void", EXACT)
    code, scores, messages = job(evaluate.main, *flags)
    assert code == 0, messages
    return scores


@pytest.mark.slow
def test_scores_are_those_of_a_plain_loop(of_model: dict[str, Any]) -> None:
    model = models.load("scenes")
    predictor = Predictor(model, Inference(precision="float32"))
    for refiner, end in ((Argmax(), ""), (DenseCRF(CRFParams(**dict(model.card.crf))), "_refined")):
        score, curve = SegmentationScore(len(SCENE_CLASSES)), TrimapCurve(len(SCENE_CLASSES), "void")
        for seed, size in enumerate(SIZES):
            image, truth = scene(seed, size)
            truth[:3, ::2] = 255
            [grid] = predictor.logits([image])
            [refinement] = refiner.refine([image], [grid], model.geometry)
            mask = refinement.mask
            score.update(truth, mask)
            curve.update(truth, mask)
        assert of_model[f"mean_iou{end}"] == pytest.approx(100 * score.mean_iou, abs=0.1)
        assert of_model[f"pixel_accuracy{end}"] == pytest.approx(100 * score.pixel_accuracy, abs=0.1)
        known = [value for value in of_model[f"iou{end}"].values() if value is not None]
        assert np.mean(known) == pytest.approx(of_model[f"mean_iou{end}"], abs=0.01)
        np.testing.assert_allclose(of_model[f"trimap{end}"], 100 * curve.mean_iou, atol=0.2)
    assert of_model["mean_iou_refined"] != of_model["mean_iou"]
    assert (of_model["images"], of_model["model"], of_model["trimap_band"]) == (4, "scenes", "void")


@pytest.mark.slow
def test_the_output_holds_scores_table_and_plots(scenes: str, of_model: dict[str, Any]) -> None:
    assert json.loads(storage.read_bytes(f"{scenes}/scores/scores.json")) == of_model
    assert f"| **mean IoU** | {of_model['mean_iou']:.2f} |" in storage.read_bytes(f"{scenes}/scores/scores.md").decode()
    for name in ("classes.png", "trimap.png"):
        assert storage.read_bytes(f"{scenes}/scores/{name}").startswith(b"\x89PNG")


@pytest.mark.slow
def test_masks_of_the_main_job_score_as_the_model_does(scenes: str, of_model: dict[str, Any]) -> None:
    """And of other data: what has no counterpart is named."""
    run = RunConfig(
        input=Uri(f"{scenes}/data/val"),
        output=Uri(f"{scenes}/masks"),
        model=Uri("scenes"),
        inference=Inference(precision="float32"),
    )
    segment(check(run))
    masks = f"--masks={scenes}/masks"
    code, scores, messages = job(evaluate.main, *flags_for(f"{scenes}/data"), masks, "--trimap=void")
    assert code == 0, messages
    for name in ("mean_iou", "pixel_accuracy", "iou", "trimap"):
        assert scores[f"{name}_refined"] == of_model[f"{name}_refined"]
        assert scores[name] is None
    assert (scores["missing"], scores["extra"], scores["images"], scores["crf"]) == (0, 0, 4, of_model["crf"])
    for name in ("002", "new"):
        put(f"{scenes}/others", name, *scene(2, SIZES[2]))
    code, scores, messages = job(evaluate.main, *flags_for(f"{scenes}/others"), masks)
    assert code == 0, messages
    assert (scores["missing"], scores["extra"], scores["images"]) == (1, 3, 1)
    assert "1 without a mask: val/new.png" in messages
    assert "3 masks without a labelled image: 000.png, 001.png, 003.png" in messages
    put(f"{scenes}/foreign", "other", *scene(2, SIZES[2]))
    code, _, messages = job(evaluate.main, *flags_for(f"{scenes}/foreign"), masks)
    assert code == 2
    assert "masks have keys like '000.png', images like 'val/other.png'" in messages
    put(f"{scenes}/resized", "001", *scene(2, (50, 40)))
    code, _, messages = job(evaluate.main, *flags_for(f"{scenes}/resized"), masks)
    assert code == 2
    assert "evaluate: the mask of val/001.png: truth is (40, 50)" in messages


@pytest.fixture(scope="module")
def searched(scenes: str) -> tuple[dict[str, Any], str]:
    """Summary and messages of a search where the truth is what the CRF with certain parameters makes of the scores."""
    model = models.load("scenes")
    predictor = Predictor(model, Inference(precision="float32"))
    for seed, size in enumerate(SIZES[:2]):
        image, _ = scene(seed, size)
        [grid] = predictor.logits([image])
        [refinement] = DenseCRF(PLANTED).refine([image], [grid], model.geometry)
        put(f"{scenes}/planted", f"{seed}", image, refinement.mask)
    ranges = ("--bilateral_weight=[4,10,2]", "--bilateral_xy=[20,60,20]", "--bilateral_rgb=[5,9,2]")
    fixed = ("--gaussian_weight=2", "--gaussian_xy=2", "--label_costs=[0]")
    flags = (*flags_for(f"{scenes}/planted"), "--model=scenes", f"--output={scenes}/scores", EXACT)
    code, scores, messages = job(search_crf.main, *flags, *ranges, *fixed)
    assert code == 0, messages
    return scores, messages


@pytest.mark.slow
def test_a_planted_optimum_is_found(scenes: str, searched: tuple[dict[str, Any], str]) -> None:
    scores, messages = searched
    assert scores["params"] == json.loads(json.dumps(asdict(PLANTED)))
    assert scores["mean_iou"] < 99 < scores["mean_iou_refined"]
    assert scores["at_edge"] == ["bilateral_rgb"]
    assert "the best bilateral_rgb, 9, is at an end of its range" in messages
    assert scores["tried"] < 4 * 3 * 3 + 1
    assert storage.read_bytes(f"{scenes}/scores/crf.png").startswith(b"\x89PNG")
    assert yaml.safe_load(storage.read_bytes(scores["config"]))["refine"]["params"] == scores["params"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "flags"),
    [
        (RunConfig, ("--input=in", "--output=out")),
        (EvaluateConfig, ("--data=d", "--data-format=voc", "--model=scenes")),
    ],
)
def test_what_was_found_is_a_config_of_the_other_jobs(
    searched: tuple[dict[str, Any], str], tmp_path: Path, config: type[Any], flags: tuple[str, ...]
) -> None:
    path = tmp_path / "crf.yaml"
    path.write_bytes(storage.read_bytes(searched[0]["config"]))
    assert parse(config, "", [f"--config={path}", *flags]).refine == RefineConfig(params=PLANTED)


@pytest.mark.slow
def test_without_the_crf_only_the_network_is_scored(bucket: str) -> None:
    put_parquet(f"{bucket}/data", "val", 1)
    flags = (f"--data={bucket}/data", "--data-format=parquet", "--model=scenes", "--refine.backend=none")
    code, scores, messages = job(evaluate.main, *flags)
    assert code == 0, messages
    assert 0 <= scores["mean_iou"] <= 100
    assert scores["mean_iou_refined"] is scores["crf"] is None
    assert (scores["images"], scores["trimap_band"]) == (1, "borders")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give either --model, to run it, or --masks"),
        (("--model=scenes", "--masks=somewhere"), "give either --model, to run it, or --masks"),
        (
            ("--masks=somewhere", "--refine.backend=none", "--inference.flip"),
            "inference and refine are flags of a --model; masks are scored as they are",
        ),
        (("--model=no-such-model",), "no model is called 'no-such-model'"),
        (("--model=scenes",), "those of what is to be scored are sky"),
        (("--masks={data}/nothing",), "/nothing"),
        (("--model=scenes", "--split=test"), "/data/testannot: there is no such"),
        (("--model=scenes", "--output=/proc/nothing/out"), "cannot write /proc/nothing/out"),
    ],
)
def test_what_cannot_be_scored_ends_with_2_and_one_message(
    tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    put_camvid(f"{tmp_path}/data", "val", 1)
    given = (f"--data={tmp_path}/data", "--data-format=camvid", f"--classes={json.dumps(CLASSES)}")
    code, _, messages = job(evaluate.main, *given, *(flag.format(data=tmp_path) for flag in flags))
    assert code == 2
    assert message in messages
    assert messages.startswith("evaluate: ")


def test_labelled_pictures_that_cannot_be_used_are_told_by_name(tmp_path: Path) -> None:
    put_camvid(f"{tmp_path}/data", "val", 2)
    (tmp_path / "data" / "valannot" / "001.png").unlink()
    for main, more in ((evaluate.main, ()), (search_crf.main, (f"--output={tmp_path}/out",))):
        code, _, messages = job(main, *flags_for(f"{tmp_path}/data"), "--model=scenes", *more)
        assert code == 2
        assert "1 of 2 labelled pictures cannot be used:\n  val/001.png: there is no mask" in messages
