"""Files of keys, as people and queries write them: which images of an input or an output are meant."""

import io

import pyarrow as pa

from pipeline import storage
from pipeline.data import tables
from pipeline.data.formats.columns import only
from pipeline.data.formats.key_values import KEYS, holds_keys, texts
from pipeline.data.formats.shard import damage_as_shard_error
from pipeline.errors import ConfigError, ShardError

_COLUMN = "key"


def keys_in(data: bytes, uri: str, flag: str) -> list[str]:
    """Read the column `key` of a table, or the only one of a Parquet file; of text each line; each key once.

    Args:
        data: the whole file.
        uri: where it was; its suffix says what it is.
        flag: that named it, for messages.

    Raises:
        ConfigError: the file is none, or has no such column or no key.
    """
    shown, name = storage.redact(uri), storage.base_name(uri)
    try:
        with damage_as_shard_error(uri, "file of keys"):
            schema = tables.table_schema(name, io.BytesIO(data))
            column = _column(schema, shown, flag, has_header=tables.is_csv(name))
            batches = tables.table_batches(name, io.BytesIO(data), [column])
            keys = dict.fromkeys(key for _, batch in batches for key in texts(batch.column(column)) if key)
    except ShardError as error:
        raise ConfigError(f"{flag}: {error}") from error
    if not keys:
        raise ConfigError(f"{flag}: {shown} names no key")
    return list(keys)


def _column(schema: pa.Schema, file: str, flag: str, *, has_header: bool) -> str:
    """Choose the column. The one line that names it may be a key as well, where a person has written no header."""
    if _COLUMN not in schema.names and (has_header or len(schema) != 1):
        lines = ", or call the file .txt if its first line is a key" if has_header and len(schema) == 1 else ""
        raise ConfigError(
            f"{flag}: {file} has no column {_COLUMN}; its columns are {', '.join(schema.names)}; "
            f"rename that of keys{lines}"
        )
    field = only(schema, file, _COLUMN if _COLUMN in schema.names else schema.names[0])
    if not holds_keys(field.type):
        raise ConfigError(f"{flag}: column {field.name} of {file} holds {field.type}, and keys are {KEYS}")
    return str(field.name)
