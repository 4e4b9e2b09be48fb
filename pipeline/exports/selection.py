"""The images that are most worth labelling, by what their masks say of them."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline import masks, storage
from pipeline.errors import ConfigError
from pipeline.masks import CommittedFile, MaskRows, Place
from pipeline.masks.choosing import Highest, chances
from pipeline.masks.joining import joined, network_files, places_of
from pipeline.storage import StorageConfig, Uri

By = Literal["uncertainty", "disagreement", "rare-class", "diversity"]

_CANDIDATES = 20_000
"""Images of a random sample, among which what needs masks or a comparison of all with all is looked for."""

Scored = tuple[str, float]
"""A key, and how much its image is worth; what scores mean depends on the rule."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig(StorageConfig):
    """Choose the images of an output that are most worth labelling.

    Args:
        output: of a run.
        count: how many images.
        by: uncertainty, the lowest confidence; disagreement, where the refiner has changed most; rare-class, much of
            classes that are rare in all; diversity, mixtures of classes that are unlike each other.
        to: the list, a CSV file with the columns key and score, for --keys of export and --only-keys of the main job.
        generation: of the masks; by default the newest.
        network: an output of the same images without a refiner, for disagreement; by default a generation of this
            output.
    """

    output: Uri
    count: int
    by: By
    to: Uri
    generation: str | None = None
    network: Uri | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for a count that chooses nothing, and a list that could not be read again."""
        super().__post_init__()
        if self.count < 1:
            raise ConfigError(f"count is {self.count}; give the number of images to choose, at least 1")
        if not self.to.lower().endswith(".csv"):
            raise ConfigError(f"to is {storage.redact(self.to)}; give the list a name that ends with .csv")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Say where the list is, and how many keys it has."""

    to: str
    images: int

    def to_json(self) -> str:
        """Give one line of JSON."""
        return json.dumps(vars(self))


def select(config: SelectConfig) -> Selection:
    """Choose images, and write the list of their keys.

    Memory: `count` keys; 20 000 images for disagreement and diversity; and the keys, where several runs have written.

    Raises:
        ConfigError: there are no masks of the network to compare with.
        StorageError: there are no masks, or a storage does not answer.
    """
    with storage.retrying(config.storage_timeout):
        output = storage.normalize(config.output)
        files = masks.generation_files(output, config.generation)
        if config.by == "disagreement":
            chosen = _disagreeing(files, network_files(files[0].info, output, config.network), config.count)
        elif config.by == "diversity":
            chosen = _diverse(files, config.count)
        elif config.by == "rare-class":
            chosen = _highest(files, partial(_rarity, shares=_shares(files)), config.count)
        else:
            chosen = _highest(files, lambda rows: 1 - rows.confidence, config.count)
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)  # else a \r in a key ends a line
        lines.writerows([("key", "score"), *((key, float(f"{score:.6g}")) for key, score in chosen)])
        storage.put_whole(storage.normalize(config.to), text.getvalue().encode())
    return Selection(to=storage.redact(storage.normalize(config.to)), images=len(chosen))


def _rows(files: Sequence[CommittedFile]) -> Iterator[MaskRows]:
    return (rows for rows in masks.newest_rows(files) if isinstance(rows, MaskRows))


def _highest(
    files: Sequence[CommittedFile], score: Callable[[MaskRows], NDArray[np.float64]], count: int
) -> list[Scored]:
    """Choose the highest scores, in one pass."""
    kept: Highest[Scored] = Highest(count)
    for rows in _rows(files):
        scores = score(rows)
        kept.offer(scores, list(zip(rows.keys, scores.tolist(), strict=True)).__getitem__)
    return list(kept)


def _shares(files: Sequence[CommittedFile]) -> NDArray[np.float64]:
    """Count the share of all pixels that each class has (C,)."""
    pixels = sum((rows.pixels.sum(axis=0) for rows in _rows(files)), np.zeros(len(files[0].info.classes), np.int64))
    shares: NDArray[np.float64] = pixels / max(int(pixels.sum()), 1)
    return shares


def _rarity(rows: MaskRows, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Score images (N,): the mean over their pixels of one by the share of all pixels that the pixel's class has."""
    weights = np.divide(1, shares, out=np.zeros_like(shares), where=shares > 0)
    rarity: NDArray[np.float64] = rows.pixels @ weights / np.maximum(rows.pixels.sum(axis=1), 1)
    return rarity


@dataclass(frozen=True)
class _Candidate:
    key: str
    place: Place
    mixture: NDArray[np.float64]
    """Share of its pixels by class (C,)."""


def _candidates(files: Sequence[CommittedFile]) -> list[_Candidate]:
    kept: Highest[_Candidate] = Highest(_CANDIDATES)
    for rows in _rows(files):
        kept.offer(chances(rows.keys), partial(_candidate, rows))
    return list(kept)


def _candidate(rows: MaskRows, index: int) -> _Candidate:
    pixels = rows.pixels[index]
    return _Candidate(rows.keys[index], rows.place(index), pixels / max(int(pixels.sum()), 1))


def _disagreeing(files: Sequence[CommittedFile], network: Sequence[CommittedFile], count: int) -> list[Scored]:
    """Choose the candidates whose masks differ most from the network's own; the score is the share of pixels."""
    if not network:
        raise ConfigError(
            "by: disagreement needs the masks of the network alone; segment the images with --refine.backend none into "
            "an output, and give it as --network"
        )
    places = {candidate.key: candidate.place for candidate in _candidates(files)}
    kept: Highest[Scored] = Highest(count)
    for key, refined, before in joined(places, places_of(network, places)):
        differing = float((refined != before).mean())
        kept.offer(np.array([differing]), [(key, differing)].__getitem__)
    return list(kept)


def _diverse(files: Sequence[CommittedFile], count: int) -> list[Scored]:
    """Choose candidates one after the other, each the one that is furthest from all chosen before (k-center greedy,
    Sener and Savarese, arXiv 1708.00489), by Hellinger's distance of the mixtures; the score is that distance.
    """
    candidates = _candidates(files)
    if not candidates:
        return []
    roots = np.sqrt(np.stack([candidate.mixture for candidate in candidates]))  # (N, C)
    nearest = np.sqrt(((roots - roots.mean(axis=0)) ** 2).sum(axis=1) / 2)  # to begin with, the most unusual one
    chosen: list[Scored] = []
    for _ in range(min(count, len(candidates))):
        best = int(nearest.argmax())
        chosen.append((candidates[best].key, float(nearest[best])))
        distance = np.sqrt(((roots - roots[best]) ** 2).sum(axis=1) / 2)
        nearest = np.minimum(nearest, distance) if len(chosen) > 1 else distance
        nearest[best] = -np.inf
    return chosen
