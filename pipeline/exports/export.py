"""An export: images chosen, read part after part, and handed to a format; continued where it was stopped."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import masks, storage
from pipeline.data.formats.format import Encoded
from pipeline.data.key_files import keys_in
from pipeline.data.pictures import Picture, Pictures, pictures_of
from pipeline.errors import ConfigError, ImageError, PipelineError, StorageError
from pipeline.exports.formats import FORMATS, ExportName
from pipeline.exports.image import ExportedImage
from pipeline.exports.names import FileNames
from pipeline.exports.progress import begun, note
from pipeline.masks import CommittedFile, DatasetInfo, MaskRows, Place
from pipeline.runtime.progress import say
from pipeline.storage import StorageConfig, Uri

_PART_PIXELS = 400_000_000


@dataclass(frozen=True, kw_only=True)
class ExportConfig(StorageConfig):
    """Write the masks of an output in a format that another tool reads.

    Args:
        output: of a run.
        to: the format.
        destination: folder or prefix for its files, empty at first; an export that was stopped continues there.
        generation: of the masks; by default the newest.
        classes: names; only images in which one of them occurs, and of these classes only where shapes are written.
        min_confidence: only images that are at least as certain, 0 to 1.
        max_confidence: only images that are at most as certain, 0 to 1.
        keys: file of the keys of images, a column `key` of Parquet or CSV, or a key a line; only these.
        input: where the pictures are now, or how they are reached; by default where the run found them.
    """

    output: Uri
    to: ExportName
    destination: Uri
    generation: str | None = None
    classes: tuple[str, ...] = ()
    min_confidence: float = 0.0
    max_confidence: float = 1.0
    keys: Uri | None = None
    input: Uri | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for limits between which nothing lies."""
        super().__post_init__()
        if not 0 <= self.min_confidence <= self.max_confidence <= 1:
            raise ConfigError(
                f"min_confidence is {self.min_confidence} and max_confidence {self.max_confidence}; give "
                "0 <= min_confidence <= max_confidence <= 1"
            )


@dataclass(frozen=True, kw_only=True)
class Export:
    """Say what an export has.

    Attributes:
        destination: where it is.
        format: as `--to` knows it.
        images: chosen.
        without_picture: those whose picture is gone or another one by now, where the format takes pictures.
        parts: into which they were cut.
    """

    destination: str
    format: str
    images: int
    without_picture: int
    parts: int

    def to_json(self) -> str:
        """Give one line of JSON."""
        return json.dumps(vars(self))


@dataclass(frozen=True, kw_only=True)
class _Row:
    """An image that is exported, before its mask is read."""

    number: int
    key: str
    source: str
    digest: str
    place: Place
    pixels: int
    confidence: float
    classes: dict[int, float]
    name: str


def export(config: ExportConfig) -> Export:
    """Export masks; what an earlier call with the same configuration has written is not written again.

    Memory: a part, of 400 million pixels or one image, with the pictures where the format has some; and a number for
    each image.

    Raises:
        ConfigError: a class or a list of keys that there is not, or a destination that holds another export or other
            files.
        StorageError: there are no masks, or a storage does not answer.
    """
    output, destination = storage.normalize(config.output), storage.normalize(config.destination)
    with storage.retrying(config.storage_timeout):
        files = masks.generation_files(output, config.generation)
        info, labels = files[0].info, _labels(config, files[0].info)
        keys = _keys(config)
        names: dict[str, str] = {}
        writer = FORMATS[config.to](
            info=info,
            put=lambda path, data: storage.put_whole(storage.join(destination, path), data),
            name_of=names.__getitem__,
        )
        writer.check()
        done = begun(destination, _settings(config, files, keys))
        writer.begin()
        pictures = pictures_of(output, info, storage.normalize(config.input) if config.input else "")
        images = parts = 0
        for number, part in enumerate(_parts(_rows(files, config, labels, keys), writer.part_images)):
            images, parts = images + len(part), number + 1
            if number < done["parts"]:
                continue
            names.clear()
            names.update((row.key, row.name) for row in part)
            fetched = _fetched(pictures, part) if writer.needs_pictures else {}
            writer.part(number, _images(part, fetched))
            lacking = [str(found) for found in fetched.values() if isinstance(found, PipelineError)]
            done |= {
                "parts": parts,
                "images": images,
                "without_picture": done["without_picture"] + len(lacking),
                "such_as": done["such_as"] or next(iter(lacking), ""),
            }
            note(destination, done)
        writer.finish(images)
    lacking_pictures = done["without_picture"]
    if lacking_pictures:
        say(
            f"{lacking_pictures} of {images} images are without their picture ({done['such_as']}); where pictures lie "
            "elsewhere now, give that place as --input, and another --destination"
        )
    shown = storage.redact(destination)
    return Export(destination=shown, format=config.to, images=images, without_picture=lacking_pictures, parts=parts)


def _fetched(pictures: Pictures, part: Sequence[_Row]) -> dict[str, Encoded]:
    """Fetch the pictures of a part by their keys, or why one is not to be had.

    Raises:
        StorageError: a storage does not answer, or takes the credentials for none.
    """
    wanted = [Picture(key=row.key, source=row.source, digest=row.digest) for row in part]
    fetched: dict[str, Encoded] = {}
    for picture, encoded in pictures.fetch(wanted):
        if isinstance(encoded, StorageError) and storage.store_fails(picture.source, encoded):
            raise encoded
        fetched[picture.key] = encoded
    return fetched


def _labels(config: ExportConfig, info: DatasetInfo) -> frozenset[int]:
    """Give the ids of the classes asked for, of all where none is. Raises ConfigError for one that there is not."""
    unknown = [name for name in config.classes if name not in info.classes]
    if unknown:
        raise ConfigError(f"classes: the masks have no {unknown[0]!r}; they have {', '.join(info.classes)}")
    return frozenset(i for i, name in enumerate(info.classes) if not config.classes or name in config.classes)


def _keys(config: ExportConfig) -> frozenset[str] | None:
    """Read the list of keys; None where none is given."""
    if config.keys is None:
        return None
    uri = storage.normalize(config.keys)
    return frozenset(keys_in(storage.read_bytes(uri), uri, "keys"))


def _settings(config: ExportConfig, files: Sequence[CommittedFile], keys: frozenset[str] | None) -> dict[str, Any]:
    """Name all that decides what is in an export: an export goes on only where this is the same."""
    listed = hashlib.sha256("\0".join(file.uri for file in files).encode()).hexdigest()
    chosen = hashlib.sha256("\0".join(sorted(keys)).encode()).hexdigest() if keys is not None else None
    return {
        "output": storage.redact(storage.normalize(config.output)),
        "generation": files[0].info.generation,
        "files": listed,
        "format": config.to,
        "classes": list(config.classes),
        "min_confidence": config.min_confidence,
        "max_confidence": config.max_confidence,
        "keys": chosen,
        "input": storage.redact(storage.normalize(config.input)) if config.input else "",
    }


def _rows(
    files: Sequence[CommittedFile], config: ExportConfig, labels: frozenset[int], keys: frozenset[str] | None
) -> Iterator[_Row]:
    """Stream the images asked for, numbered and named; files and rows always in the same order."""
    number, names, chosen = 0, FileNames(), sorted(labels)
    limited = (config.min_confidence, config.max_confidence) != (0.0, 1.0)
    for rows in masks.newest_rows(files):
        if not isinstance(rows, MaskRows):
            continue
        fits: NDArray[np.bool_] = np.ones(len(rows.keys), bool)
        if limited:
            fits &= (rows.confidence >= config.min_confidence) & (rows.confidence <= config.max_confidence)
        if config.classes:
            fits &= rows.pixels[:, chosen].any(axis=1)
        if keys is not None:
            fits &= np.array([key in keys for key in rows.keys], bool)
        for index in fits.nonzero()[0].tolist():
            occurring = [label for label in chosen if rows.pixels[index, label]]
            yield _Row(
                number=number,
                key=rows.keys[index],
                source=rows.sources[index],
                digest=rows.digests[index],
                place=rows.place(index),
                pixels=int(rows.sizes[index].prod()),
                confidence=float(rows.confidence[index]),
                classes={label: float(rows.class_confidence[index, label]) for label in occurring},
                name=names.of(rows.keys[index]),
            )
            number += 1


def _parts(rows: Iterator[_Row], most: int) -> Iterator[list[_Row]]:
    """Cut rows into parts of `most` images and _PART_PIXELS pixels at most."""
    part: list[_Row] = []
    pixels = 0
    for row in rows:
        if part and (len(part) == most or pixels + row.pixels > _PART_PIXELS):
            yield part
            part, pixels = [], 0
        part.append(row)
        pixels += row.pixels
    if part:
        yield part


def _images(part: Sequence[_Row], fetched: dict[str, Encoded]) -> Iterator[ExportedImage]:
    """Read the masks of a part, one at a time."""
    by_place = {row.place: row for row in part}
    for place, png in masks.read_pngs(by_place):
        row = by_place[place]
        try:
            mask = masks.decode(png)
        except ImageError as error:
            raise StorageError(f"the mask of {row.key!r}: {error}; `deeplab-buckets verify` says more") from error
        yield ExportedImage(
            number=row.number,
            key=row.key,
            source=row.source,
            mask=mask,
            png=png,
            confidence=row.confidence,
            classes=row.classes,
            picture=fetched.get(row.key),
        )
