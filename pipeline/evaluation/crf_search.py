"""The search of the CRF's parameters: the network's logits once, then a Ray task for each point and picture."""

import json
import operator
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml

from pipeline import models, storage
from pipeline.batch.parcels import BLOCK_BYTES
from pipeline.data.formats.format import Pair
from pipeline.data.labelled import list_pairs
from pipeline.evaluation.coarse_to_fine import Point, best_point, coarse_to_fine
from pipeline.evaluation.labelled import fetch_labelled, labels_for
from pipeline.evaluation.network_logits import NetworkLogits, network_logits
from pipeline.evaluation.search_config import SEARCHED, SearchConfig
from pipeline.labels import Labels
from pipeline.metrics import SegmentationScore
from pipeline.models import Network
from pipeline.refine import Argmax, Refiner
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.reports.heat_map import heat_map
from pipeline.runtime.cluster import connect
from pipeline.runtime.configured import configured
from pipeline.runtime.lock import Lock, held, put_checked
from pipeline.runtime.progress import ProgressBar, say

_PARAMS_FILE, _HEAT_MAP_FILE = "crf.yaml", "crf.png"


@dataclass(frozen=True, kw_only=True)
class SearchInputs:
    """Hold what was opened: the data listed, the output written to and read back, the weights read."""

    config: SearchConfig
    pairs: list[Pair]
    labels: Labels
    model: Network


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Hold the outcome of a search.

    Attributes:
        best: the parameters with the highest mean IoU.
        mean_iou: of the network alone, 0 to 1.
        mean_iou_refined: with the best parameters, 0 to 1.
        tried: mean IoU, 0 to 1, after the CRF at each point that was tried, without costs of labels.
        at_edge: the searched parameters whose best value is the first or last of several.
    """

    best: CRFParams
    mean_iou: float
    mean_iou_refined: float
    tried: dict[Point, float]
    at_edge: tuple[str, ...]


def prepare(config: SearchConfig) -> SearchInputs:
    """Try everything that can go wrong before Ray starts, in seconds.

    Raises:
        PipelineError: whatever makes the search impossible.
    """
    config = config.resolved()
    pairs = list_pairs(config.data, config.data_format, config.split, config.columns, say)
    count = min(config.images, len(pairs))
    storage.probe_writable(config.output)
    DenseCRF()  # its compiled core may be missing here
    model = models.load(config.model, smp=config.smp, unnamed=config.classes)
    labels = labels_for(config.data_format, config.classes, model.classes)
    chosen = [pairs[n * len(pairs) // count] for n in range(count)]
    return SearchInputs(config=config, pairs=chosen, labels=labels, model=model)


def search(ready: SearchInputs) -> dict[str, Any]:
    """Search on the Ray cluster that `connect` gives, put the files, and return the summary.

    Raises:
        ConfigError: labelled pictures that cannot be used, by name.
        RunError: another run writes there, the cluster is too small or busy, or a picture could not be segmented.
        StorageError: the storage stopped answering.
    """
    connect()
    config = ready.config
    with (
        configured(storage_timeout=config.storage_timeout, block_bytes=BLOCK_BYTES),
        held(Lock(output=config.output)) as lock,
    ):
        return _search(ready, lock)


def _search(ready: SearchInputs, lock: Lock) -> dict[str, Any]:
    begin = time.monotonic()
    config = ready.config
    labelled = fetch_labelled(ready.pairs, ready.labels, config.split)
    result = best_parameters(config, network_logits(labelled, ready.model, config.inference))
    params = storage.join(config.output, _PARAMS_FILE)
    best = json.loads(json.dumps(asdict(result.best)))  # lists for tuples
    note = (
        f"# deeplab-buckets search-crf, {len(result.tried)} parameters tried, "
        f"{len(ready.pairs)} pictures of {config.split}, "
        f"model {ready.model.card.name}: mean IoU {100 * result.mean_iou:.2f} -> {100 * result.mean_iou_refined:.2f}\n"
    )
    content = note + yaml.safe_dump({"refine": {"params": best}}, sort_keys=False)
    put_checked(params, content.encode(), lock.check)
    in_percent = {point: 100 * score for point, score in result.tried.items()}
    put_checked(storage.join(config.output, _HEAT_MAP_FILE), heat_map(in_percent, config.axes()), lock.check)
    for name in result.at_edge:
        say(f"the best {name}, {getattr(result.best, name):g}, is at an end of its range: widen it")
    return {
        "model": ready.model.card.name,
        "split": config.split,
        "images": len(ready.pairs),
        "tried": len(result.tried),
        "mean_iou": round(100 * result.mean_iou, 2),
        "mean_iou_refined": round(100 * result.mean_iou_refined, 2),
        "params": best,
        "at_edge": result.at_edge,
        "seconds": round(time.monotonic() - begin, 1),
        "config": storage.redact(params),
    }


def best_parameters(config: SearchConfig, logits: NetworkLogits) -> SearchResult:
    """Search the grid, and then the labels' costs; everything is scored on all pictures.

    Raises:
        StorageError: the storage stopped answering.
    """
    axes = config.axes()
    [alone] = mean_ious(logits, [Argmax()])
    say(f"mean IoU of the network alone: {100 * alone:.2f}")

    def score(points: Sequence[Point]) -> list[float]:
        say(f"trying {len(points)} parameters on {len(logits)} images each")
        scores = mean_ious(logits, [DenseCRF(config.params(point)) for point in points])
        highest, at = max(zip(scores, points, strict=True), key=operator.itemgetter(0))  # the first of equals
        say(f"the best of them: mean IoU {100 * highest:.2f} at {_described(at)}")
        return scores

    tried = coarse_to_fine(axes, score)
    best = best_point(tried)
    say(f"the best of all {len(tried)}: mean IoU {100 * tried[best]:.2f} at {_described(best)}")
    ends = zip(SEARCHED, best, axes, strict=True)
    params, refined = best_costs(config, logits, config.params(best), tried[best])
    return SearchResult(
        best=params,
        mean_iou=alone,
        mean_iou_refined=refined,
        tried=tried,
        at_edge=tuple(name for name, value, axis in ends if len(axis) > 1 and value in (axis[0], axis[-1])),
    )


def best_costs(
    config: SearchConfig, logits: NetworkLogits, params: CRFParams, mean_iou: float
) -> tuple[CRFParams, float]:
    """Try other costs for each label in turn, and keep what is better than all before.

    Args:
        config: the costs to try.
        logits: of the pictures.
        params: without costs; its other fields stay.
        mean_iou: of `params`, 0 to 1.

    Returns:
        the parameters, with costs where some are better, and their mean IoU.

    Raises:
        StorageError: the storage stopped answering.
    """
    values = [cost for cost in config.label_costs if cost != 1]
    for label in range(logits.classes if values else 0):
        before = params.label_costs or (1.0,) * logits.classes
        tried = [replace(params, label_costs=(*before[:label], cost, *before[label + 1 :])) for cost in values]
        scores = mean_ious(logits, [DenseCRF(one) for one in tried])
        highest, best = max(zip(scores, tried, strict=True), key=operator.itemgetter(0))
        if highest > mean_iou:
            mean_iou, params = highest, best
            say(f"label {label} at a cost of {best.label_costs[label]:g}: mean IoU {100 * mean_iou:.2f}")
    return params, mean_iou


def mean_ious(logits: NetworkLogits, refiners: Sequence[Refiner]) -> list[float]:
    """Compute the mean IoU, 0 to 1, pooled over the pictures, of each refiner."""
    pooled = [SegmentationScore(logits.classes) for _ in refiners]
    with ProgressBar(len(refiners) * len(logits)) as progress:
        for done, (index, matrix) in enumerate(logits.matrices(refiners), 1):
            pooled[index].add(matrix)
            progress.show(done, 0)
    return [score.mean_iou for score in pooled]


def _described(point: Point) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in zip(SEARCHED, point, strict=True))
