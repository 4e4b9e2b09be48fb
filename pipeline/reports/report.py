"""The report of an output: one HTML file to look at its masks, from masks/ and what lies beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline import masks, storage
from pipeline.data.pictures import pictures_of
from pipeline.masks import CommittedFile, DatasetInfo, MaskRows
from pipeline.masks.choosing import Highest, chances
from pipeline.masks.joining import joined, network_files, places_of
from pipeline.reports.gallery import gallery
from pipeline.reports.page import render
from pipeline.reports.runs import RunNote, run_notes
from pipeline.reports.shortlist import DISAGREEING, REASONS, Chosen, Shortlist
from pipeline.reports.statistics import Statistics
from pipeline.storage import StorageConfig, Uri

_COMPARED = 2000
"""Images of a random sample, among which those that network and refiner see most differently are looked for."""

LAYERS = {"image": "image", "before": "network", "after": "refined mask"}


@dataclass(frozen=True, kw_only=True)
class ReportConfig(StorageConfig):
    """Write a report of an output: one HTML file that opens from disk.

    Args:
        output: of a run.
        to: where the report goes; by default OUTPUT/report.html.
        generation: of the masks that are shown; by default the newest.
        network: an output of the same images without a refiner, to compare with; by default a generation of this
            output, where it has one.
        input: where the pictures are now, or how they are reached; by default where the run found them.
    """

    output: Uri
    to: Uri | None = None
    generation: str | None = None
    network: Uri | None = None
    input: Uri | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """Say where a report is, and what it was made of: images with masks, failed images, pictures shown."""

    report: str
    images: int
    failed: int
    pictures: int
    bytes: int

    def to_json(self) -> str:
        """Give one line of JSON."""
        return json.dumps(vars(self))


def report(config: ReportConfig) -> Report:
    """Write the report.

    Memory: some hundred rows and pictures; and the keys, where several runs have written the generation.

    Raises:
        ConfigError: the network's output has other classes.
        StorageError: there are no masks, or a storage does not answer.
    """
    output = storage.normalize(config.output)
    with storage.retrying(config.storage_timeout):
        files = masks.generation_files(output, config.generation)
        info, network = files[0].info, network_files(files[0].info, output, config.network)
        statistics, shortlist, sample = _look(files, sampled=bool(network))
        chosen = shortlist.chosen(_disagreeing(sample, network))
        shown = gallery(
            chosen,
            pictures_of(output, info, storage.normalize(config.input) if config.input else ""),
            info,
            places_of(network, [image.key for image in chosen]),
            info.palette,
            LAYERS if network else {name: LAYERS[name] for name in ("image", "after")},
            REASONS,
        )
        page = _page(output, info, statistics, run_notes(output, files), shown)
        uri = storage.normalize(config.to) if config.to else storage.join(output, "report.html")
        storage.put_whole(uri, page)
    return Report(
        report=storage.redact(uri),
        images=statistics.images,
        failed=statistics.failed,
        pictures=len(chosen),
        bytes=len(page),
    )


def _look(files: Sequence[CommittedFile], sampled: bool) -> tuple[Statistics, Shortlist, list[Chosen]]:
    """Go through all rows once; also gives a random sample of them, where one is asked for."""
    classes = files[0].info.classes
    statistics, shortlist = Statistics(classes), Shortlist(len(classes))
    sample: Highest[Chosen] = Highest(_COMPARED if sampled else 0)
    for rows in masks.newest_rows(files):
        if isinstance(rows, MaskRows):
            statistics.add(rows)
            shortlist.add(rows)
            sample.offer(chances(rows.keys), partial(Chosen.of, rows))
        else:
            statistics.add_failure(rows)
    return statistics, shortlist, list(sample)


def _disagreeing(sample: Sequence[Chosen], network: Sequence[CommittedFile]) -> list[Chosen]:
    """Give the images of the sample whose mask the refiner has changed most, and how much."""
    if not network:
        return []
    by_key = {image.key: image for image in sample}
    most: Highest[Chosen] = Highest(DISAGREEING)
    places = {key: image.place for key, image in by_key.items()}
    for key, refined, before in joined(places, places_of(network, by_key)):
        image = by_key[key]
        image.disagreement = float((refined != before).mean())
        most.offer(np.array([image.disagreement]), [image].__getitem__)
    return list(most)


def _page(
    output: str, info: DatasetInfo, statistics: Statistics, runs: Sequence[RunNote], shown: dict[str, Any]
) -> bytes:
    summary = next((run.summary for run in runs if run.summary.get("generation") == info.generation), {})
    return render(
        "report.html.j2",
        title=f"Masks of {info.input}" if info.input else "Masks",
        output=storage.redact(output),
        info=info,
        refiner=refiner_words(info),
        statistics=statistics,
        occurring=int((statistics.pixels > 0).sum()),
        newest=summary,
        classes=class_table(info, statistics),
        most_share=float(statistics.shares.max()),
        histogram_counts=statistics.histogram.tolist(),
        causes=statistics.causes,
        runs=runs,
        shown=shown,
    )


def refiner_words(info: DatasetInfo) -> str:
    """Name the refiner of a generation in words."""
    if info.crf is None:
        return "without a refiner"
    return "refined by " + (next(iter(info.crf)) if len(info.crf) == 1 else "the dense CRF")


def class_table(info: DatasetInfo, statistics: Statistics) -> list[dict[str, Any]]:
    """Give the classes that occur, those of the largest share first, as rows of a table; then the others."""
    rows = zip(
        info.classes,
        info.palette,
        statistics.shares.tolist(),
        statistics.occurrences.tolist(),
        statistics.class_confidence.tolist(),
        statistics.class_histogram.tolist(),
        strict=True,
    )
    names = ("name", "rgb", "share", "images", "confidence", "histogram")
    return sorted((dict(zip(names, row, strict=True)) for row in rows), key=lambda row: -row["share"])
