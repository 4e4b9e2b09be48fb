"""A picture and its index mask: where the two lie in storage, fetching them, decoding them, and what can be wrong."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from pipeline import images, storage
from pipeline.data.shard import damage_as_shard_error
from pipeline.errors import ImageError, PipelineError, ShardError, StorageError
from pipeline.labels import IGNORE, Labels

Pixels = NDArray[np.uint8]
Encoded = bytes | PipelineError

PAIR_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.binary()),
        ("mask", pa.binary()),
        ("pixels", pa.list_(pa.int64())),
        ("problem", pa.string()),
    ]
)
"""A pair once it is fetched: `pixels` of each class, and `problem`, what is wrong with it; one of the two is null."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where encoded bytes lie: an object, or `length` bytes of it from `offset` on."""

    uri: str
    offset: int | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """Where encoded bytes lie: row `row` of row group `group` of a Parquet file, in a dotted column path."""

    uri: str
    column: str
    group: int
    row: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One labelled picture, by the name that a person knows it by.

    Attributes:
        key: its name.
        image: None where no picture was found; `problem` then says so.
        mask: None where no mask was found.
        problem: what was wrong with it already as it was listed.
    """

    key: str
    image: Place | Cell | None
    mask: Place | Cell | None
    problem: str | None = None


def fetch(pairs: Sequence[Pair], labels: Labels) -> pa.Table:
    """Fetch and check pairs; a table of PAIR_SCHEMA, a row for each pair, in their order.

    Raises:
        StorageError: the storage itself does not answer. A single object that is gone or denied is a problem, and so is
            a damaged part of a Parquet file for those whose bytes it holds.
    """
    found_images = _fetch([pair.image for pair in pairs])
    found_masks = _fetch([pair.mask for pair in pairs])
    rows = [_row(pair, image, mask, labels) for pair, image, mask in zip(pairs, found_images, found_masks, strict=True)]
    return pa.Table.from_pylist(rows, PAIR_SCHEMA)


def _row(pair: Pair, image: Encoded, mask: Encoded, labels: Labels) -> dict[str, Any]:
    if pair.problem:
        return {"key": pair.key, "problem": pair.problem}
    for found in (image, mask):
        if isinstance(found, PipelineError):
            return {"key": pair.key, "problem": str(found)}
    try:
        _, ids = decode(image, mask, labels)  # type: ignore[arg-type]
    except ImageError as error:
        return {"key": pair.key, "problem": str(error)}
    pixels = np.bincount(ids.ravel(), minlength=IGNORE + 1)[: len(labels.classes)]
    return {"key": pair.key, "image": image, "mask": mask, "pixels": pixels.tolist()}


def decode(image: bytes, mask: bytes, labels: Labels) -> tuple[Pixels, Pixels]:
    """The picture (H, W, 3) uint8 RGB and its mask (H, W) uint8 with 255 for what is not counted.

    Raises:
        ImageError: either cannot be decoded, their sizes differ, or the mask holds a value that is no class.
    """
    pixels, ids = images.decode(image), decode_mask(mask)
    if pixels.shape[:2] != ids.shape:
        (height, width), (rows, columns) = pixels.shape[:2], ids.shape
        raise ImageError(f"the picture is {width}x{height} pixels and its mask {columns}x{rows}; give both one size")
    ids[ids == labels.void] = IGNORE
    present = np.flatnonzero(np.bincount(ids.ravel()))
    unknown = present[(present >= len(labels.classes)) & (present != IGNORE)]
    if unknown.size:
        raise ImageError(
            f"the mask holds the class id {unknown[0]}; there are {len(labels.classes)} classes, "
            f"0 to {len(labels.classes) - 1}, and {IGNORE} is for pixels that are not counted"
        )
    return pixels, ids


def decode_mask(png: bytes) -> Pixels:
    """The values (H, W) uint8 of an 8-bit PNG, palette or grey. Raises ImageError for anything else."""
    try:
        with PngImageFile(io.BytesIO(png)) as image:
            if image.mode not in ("P", "L"):
                raise ImageError(
                    f"a mask is an 8-bit PNG of class ids, palette or grey; this one has the mode {image.mode}"
                )
            return np.array(image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise ImageError(f"the mask is not a readable PNG: {type(error).__name__}: {error}") from error


def _fetch(places: Sequence[Place | Cell | None]) -> list[Encoded]:
    """The bytes at each place, in order."""
    found: dict[Place | Cell | None, Encoded] = {None: StorageError("there is no mask for this picture")}
    found |= _fetch_objects([place for place in places if isinstance(place, Place)])
    found |= _fetch_cells([place for place in places if isinstance(place, Cell)])
    return [found[place] for place in places]


def _fetch_objects(places: Sequence[Place]) -> dict[Place | Cell | None, Encoded]:
    if not places:
        return {}
    first, last = min(place.uri for place in places), max(place.uri for place in places)
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    root = first[:shared].rpartition("/")[0]
    keys = [place.uri[len(root) + 1 :] for place in places]
    starts = [place.offset for place in places]
    ends = [None if place.offset is None else place.offset + (place.length or 0) for place in places]
    return dict(zip(places, storage.read_ranges(root, keys, starts, ends), strict=True))


def _fetch_cells(cells: Sequence[Cell]) -> dict[Place | Cell | None, Encoded]:
    """Cells, a row group of a column at a time."""
    found: dict[Place | Cell | None, Encoded] = {}
    for (uri, column, group), some in itertools.groupby(sorted(cells, key=_row_group), _row_group):
        wanted = list(some)
        try:
            values = _row_group_values(uri, column, group)
        except ShardError as error:
            found |= dict.fromkeys(wanted, error)
            continue
        for cell in wanted:
            value = values[cell.row].as_py() if cell.row < len(values) else None
            found[cell] = ShardError(f"column {column} holds nothing here") if value is None else value
    return found


def _row_group(cell: Cell) -> tuple[str, str, int]:
    return cell.uri, cell.column, cell.group


def _row_group_values(uri: str, column: str, group: int) -> pa.Array:
    """Raises ShardError where the file is damaged there, and StorageError where the storage does not answer."""
    with (
        damage_as_shard_error(uri, "Parquet file"),
        storage.opened(uri) as stream,
        pq.ParquetFile(stream, page_checksum_verification=True) as file,
    ):
        table = file.read_row_group(group, columns=[column])
        name, _, field = column.partition(".")
        values = table.column(name).combine_chunks()
        return pc.struct_field(values, field) if field else values
