"""Two outputs, or two generations, runs or nights of one, side by side: figures, a page, and how far they drifted."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline import masks, storage
from pipeline.data.pictures import pictures_of
from pipeline.errors import ConfigError, DriftError, StorageError, UnwrittenError, VerdictError
from pipeline.masks import CommittedFile, MaskRows, Place
from pipeline.masks.joining import joined, places_of
from pipeline.reports.comparison import Confusion, share_drift, shares_of
from pipeline.reports.gallery import gallery
from pipeline.reports.page import render
from pipeline.reports.report import refiner_words
from pipeline.reports.sides import Side, day_of, newest_days, of_run
from pipeline.runtime.progress import say
from pipeline.storage import StorageConfig, Uri

REASONS = {"changed": "masks differ most", "random": "random"}
LAYERS = {"image": "image", "before": "mask of A", "after": "mask of B"}
_CHANGED, _RANDOM = 100, 20
_CONFUSED = 12
"""Images on the page whose masks differ most, and random ones; classes in its table of confusion."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig(StorageConfig):
    """Compare the masks of two outputs, A and B.

    Args:
        output_a: of a run.
        output_b: of a run; the same output again compares what the runs of its newest day (UTC) have written with those
            of the day before that has any, if there is one, unless generations or runs are given.
        generation_a: of the masks of A; by default the newest.
        generation_b: of the masks of B; by default the newest.
        run_a: only masks that this run has written.
        run_b: only masks that this run has written.
        images: compare so many shared images pixel by pixel at most, a random sample.
        max_drift: drift above which the exit code is 4; by default any is allowed.
        to: where the page goes; by default there is none.
        metrics: where the figures go as text for Prometheus, such as a file for node_exporter's textfile collector.
        input: where the pictures are now, or how they are reached; by default where the run of B found them.
    """

    output_a: Uri
    output_b: Uri
    generation_a: str | None = None
    generation_b: str | None = None
    run_a: str | None = None
    run_b: str | None = None
    images: int = 2000
    max_drift: float | None = None
    to: Uri | None = None
    metrics: Uri | None = None
    input: Uri | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for numbers that make no comparison."""
        super().__post_init__()
        if self.images < 0:
            raise ConfigError(f"images is {self.images}; give the number of images to compare, at least 0")
        if self.max_drift is not None and not 0 <= self.max_drift <= 1:
            raise ConfigError(f"max_drift is {self.max_drift}; give a share, 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far B is from A.

    Attributes:
        drift: the largest of the three below that are known; None where there was nothing to compare with.
        share_drift: share of all pixels that have moved between classes, from the classes' shares of all images.
        confidence_drift: by how much the mean confidence differs; None where it is not known.
        disagreement: share of pixels whose class differs, in the shared images that were compared; None without any.
        max_drift: what is allowed.
        images_a, images_b: masks of each.
        compared: shared images that were compared.
        run_b: the run that wrote the newest masks of B.
        page: where the page is.
    """

    drift: float | None
    share_drift: float | None
    confidence_drift: float | None
    disagreement: float | None
    max_drift: float | None
    images_a: int
    images_b: int
    compared: int
    run_b: str
    page: str | None

    def to_json(self) -> str:
        """Give one line of JSON."""
        return json.dumps(vars(self))

    def check(self) -> None:
        """Raise DriftError where B is further from A than is allowed."""
        if self.drift is not None and self.max_drift is not None and self.drift > self.max_drift:
            raise DriftError(f"drift is {self.drift:.4f}, above max_drift {self.max_drift:g}", self.to_json())


def compare(config: CompareConfig) -> Drift:
    """Compare, and write the page and the metrics that are asked for.

    Memory: `images` rows of each side, some pictures, and the keys of a side that several runs have written.

    Raises:
        ConfigError: a run or a generation that there is not, or a newest day in which every image failed.
        StorageError: there are no masks, or a storage does not answer.
        UnwrittenError: the page or the metrics cannot be written; DriftError where the drift is too much as well.
    """
    with storage.retrying(config.storage_timeout):
        files_a, files_b = _files(config)
        if not files_a or all(file.failed for file in files_b):
            return _uncompared(config, files_b)
        a, b = (Side.read(files, config.images) for files in (files_a, files_b))
        fewer, more = (a, b) if a.statistics.images <= b.statistics.images else (b, a)
        found = places_of(more.files, fewer.sample)
        sampled = {key: image.place for key, image in fewer.sample.items() if key in found}
        places_a, places_b = (sampled, found) if fewer is a else (found, sampled)
        confusion = Confusion(a.info.classes, b.info.classes)
        differing = {key: confusion.add(mask_a, mask_b) for key, mask_a, mask_b in joined(places_a, places_b)}
        drift = _drift(config, a, b, confusion)
        _write(config, drift, lambda: _page(config, a, b, confusion, drift, differing, places_a))
    return drift


def _uncompared(config: CompareConfig, files: list[CommittedFile]) -> Drift:
    """Say that a newest day has nothing to be compared with; the metrics tell its time, so that it counts as a night.

    Raises:
        ConfigError: every image of it failed.
    """
    images = failed = 0
    for rows in masks.newest_rows(files):
        if isinstance(rows, MaskRows):
            images += len(rows.keys)
        else:
            failed += 1
    drift = Drift(
        drift=None,
        share_drift=None,
        confidence_drift=None,
        disagreement=None,
        max_drift=config.max_drift,
        images_a=0,
        images_b=images,
        compared=0,
        run_b=files[0].info.run_id,
        page=None,
    )
    _write(config, drift, None)
    if not images:
        raise ConfigError(f"the runs of {day_of(files[0])} have written no masks, {failed} images failed")
    where = storage.redact(storage.normalize(config.output_b))
    say(f"{where} has masks of {day_of(files[0])} (UTC) alone, and none before to compare them with")
    return drift


def _write(config: CompareConfig, drift: Drift, page: Callable[[], bytes] | None) -> None:
    """Write the metrics and the page, of those that are asked for and that there are. Raises as `compare` does."""
    try:
        if config.metrics:
            storage.put_whole(storage.normalize(config.metrics), metrics(drift).encode())
        if config.to and page:
            storage.put_whole(storage.normalize(config.to), page())
    except StorageError as error:
        raise _unwritten(replace(drift, page=None), error) from error


def _unwritten(drift: Drift, error: StorageError) -> VerdictError:
    """Give the error of what cannot be written, with the figures; it is that of the drift where that is too much."""
    try:
        drift.check()
    except DriftError as verdict:
        return DriftError(f"{verdict}; {error}", verdict.summary)
    return UnwrittenError(str(error), drift.to_json())


def _files(config: CompareConfig) -> tuple[list[CommittedFile], list[CommittedFile]]:
    """Find the files of A and of B, newest first. Raises ConfigError where there are no two to compare."""
    uri_a, uri_b = storage.normalize(config.output_a), storage.normalize(config.output_b)
    a, b = masks.generation_files(uri_a, config.generation_a), masks.generation_files(uri_b, config.generation_b)
    chosen = (config.generation_a, config.generation_b, config.run_a, config.run_b)
    if uri_a != uri_b or any(chosen):
        return of_run(a, config.run_a), of_run(b, config.run_b)
    return newest_days(uri_b)


def _drift(config: CompareConfig, a: Side, b: Side, confusion: Confusion) -> Drift:
    shares = share_drift(a.statistics, b.statistics, confusion.classes)
    confidence = abs(a.statistics.confidence - b.statistics.confidence)
    agreement = confusion.agreement
    known = [shares, *([] if np.isnan(confidence) else [confidence]), *([] if agreement is None else [1 - agreement])]
    return Drift(
        drift=max(known),
        share_drift=shares,
        confidence_drift=None if np.isnan(confidence) else confidence,
        disagreement=None if agreement is None else 1 - agreement,
        max_drift=config.max_drift,
        images_a=a.statistics.images,
        images_b=b.statistics.images,
        compared=confusion.images,
        run_b=b.info.run_id,
        page=storage.redact(storage.normalize(config.to)) if config.to else None,
    )


def metrics(drift: Drift) -> str:
    """Write the figures in Prometheus' text format, for the alert and the dashboard of infra/monitoring."""
    values = {
        "drift": ("how far the masks are from those before, 0 to 1", drift.drift),
        "drift_allowed": ("drift above which a person should look", drift.max_drift),
        "drift_shares": ("share of all pixels that have moved between classes", drift.share_drift),
        "drift_confidence": ("difference of the mean confidence", drift.confidence_drift),
        "drift_disagreement": ("share of pixels whose class differs in shared images", drift.disagreement),
        "compared_seconds": ("Unix time of the comparison", time.time()),
    }
    lines = []
    for name, (meaning, value) in values.items():
        if value is not None:
            lines += [f"# HELP deeplab_{name} {meaning}", f"# TYPE deeplab_{name} gauge"]
            lines.append(f'deeplab_{name}{{run_id="{drift.run_b}"}} {value:.10g}')
    return "\n".join(lines) + "\n"


def _page(
    config: CompareConfig,
    a: Side,
    b: Side,
    confusion: Confusion,
    drift: Drift,
    differing: Mapping[str, float],
    places_a: Mapping[str, Place],
) -> bytes:
    """Make the page; `differing` is the share of pixels that do, by class names, of each image that was compared."""
    changed = sorted((key for key in differing if differing[key] > 0), key=lambda key: -differing[key])[:_CHANGED]
    rows = {image.key: image for image in b.images([*changed, *list(b.sample)[:_RANDOM]])}
    for key, image in rows.items():
        image.disagreement = differing.get(key)
        image.reasons += [*(["changed"] if key in changed else []), *(["random"] if key in b.sample else [])]
    ordered = [rows[key] for key in [*changed, *(key for key in rows if key not in changed)] if key in rows]
    pictures = pictures_of(
        storage.normalize(config.output_b), b.info, storage.normalize(config.input) if config.input else ""
    )
    return render(
        "compare.html.j2",
        title="Two sets of masks, A and B",
        sides={"A": _described(config.output_a, a), "B": _described(config.output_b, b)},
        drift=drift,
        classes=_class_table(a, b, confusion),
        confused=_confused(confusion),
        shown=gallery(ordered, pictures, b.info, places_a, a.info.palette, LAYERS, REASONS),
    )


def _described(output: str, side: Side) -> dict[str, Any]:
    info = side.info
    where = storage.redact(storage.normalize(Uri(output)))
    return {"where": where, "info": info, "refiner": refiner_words(info), "statistics": side.statistics}


def _class_table(a: Side, b: Side, confusion: Confusion) -> list[dict[str, Any]]:
    """Give a row for each class, those whose share has moved most first."""
    confidence = [
        dict(zip(side.info.classes, side.statistics.class_confidence.tolist(), strict=True)) for side in (a, b)
    ]
    shares = [shares_of(side.statistics, confusion.classes).tolist() for side in (a, b)]
    colours = dict(zip(a.info.classes, a.info.palette, strict=True)) | dict(
        zip(b.info.classes, b.info.palette, strict=True)
    )
    rows = [
        {
            "name": name,
            "rgb": colours[name],
            "shares": (of_a, of_b),
            "confidence": tuple(known.get(name) for known in confidence),
            "iou": iou,
        }
        for name, of_a, of_b, iou in zip(confusion.classes, *shares, confusion.iou.tolist(), strict=True)
    ]
    return sorted(rows, key=lambda row: -abs(row["shares"][0] - row["shares"][1]))


def _confused(confusion: Confusion) -> dict[str, Any]:
    """Give the confusion of the classes that have most pixels: of each class of A, the shares that B gives to which."""
    pixels = confusion.matrix.sum(axis=0) + confusion.matrix.sum(axis=1)
    kept = [int(label) for label in np.argsort(-pixels, kind="stable")[:_CONFUSED] if pixels[label]]
    rows = confusion.matrix[kept] / np.maximum(confusion.matrix[kept].sum(axis=1, keepdims=True), 1)
    return {"names": [confusion.classes[label] for label in kept], "rows": rows[:, kept].tolist()}
