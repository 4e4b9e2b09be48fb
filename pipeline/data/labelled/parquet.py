"""Parquet files of one split, SPLIT-*.parquet in any folder or SPLIT/*.parquet: a row a pair, as `datasets` does it.

Pictures and masks are encoded, in columns of bytes or of {bytes, path}: `image`, and `mask`, `label`, `annotation` or
`segmentation`.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.data.labelled.pairs import Cell, Pair
from pipeline.data.labelled.splits import in_split
from pipeline.data.shard import damage_as_shard_error
from pipeline.errors import ConfigError

_IMAGES = ("image", "img", "jpg", "picture")
_MASKS = ("mask", "label", "annotation", "segmentation", "semantic_mask", "label_image")
_KEYS = ("key", "__key__", "id", "image_id", "filename", "file_name", "name")


def pairs(root: str, split: str) -> Iterator[Pair]:
    """Every row. Only keys are read here."""
    for entry in storage.list_files(root):
        if entry.key.endswith(".parquet") and in_split(entry.key, split):
            yield from _rows(entry.uri, entry.key)


def _rows(uri: str, name: str) -> Iterator[Pair]:
    """The rows of one file.

    Raises:
        ShardError: it is damaged.
        ConfigError: it has no column of pictures, or none of masks.
        StorageError: the storage does not answer.
    """
    with damage_as_shard_error(uri, "Parquet file"), storage.opened(uri) as stream, pq.ParquetFile(stream) as file:
        image, mask = (_column(file.schema_arrow, names, uri) for names in (_IMAGES, _MASKS))
        key = next((key for key in _KEYS if key in file.schema_arrow.names), None)
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            known = file.read_row_group(group, columns=[key])[key].to_pylist() if key else range(first, first + rows)
            for row, value in enumerate(known):
                yield Pair(f"{name}#{value}", Cell(uri, image, group, row), Cell(uri, mask, group, row))
            first += rows


def _column(schema: pa.Schema, names: Sequence[str], uri: str) -> str:
    """The dotted path of the first of these columns that there is."""
    for name in names:
        if name in schema.names:
            kind = schema.field(name).type
            return f"{name}.bytes" if pa.types.is_struct(kind) else name
    raise ConfigError(
        f"{storage.redact(uri)} has no column {' or '.join(names)}; its columns are {', '.join(schema.names)}"
    )
