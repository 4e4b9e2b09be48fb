"""Which columns of a list hold URIs and keys, and which of the others go into the output."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline import masks
from pipeline.data.formats.columns import Role, chosen, described, only, words_of
from pipeline.data.formats.format import ColumnNames
from pipeline.data.formats.key_values import KEYS, holds_keys
from pipeline.errors import ConfigError

_URI_NAMES = ("uri", "url", "image_uri", "image_url", "path", "image_path", "source", "file", "filename", "file_name")
_URI_WORDS = frozenset({"uri", "url", "path"})
_KEY_NAMES = ("key", "__key__", "id", "image_id")


@dataclass(frozen=True, kw_only=True)
class ListColumns:
    """`uri` says where an image is; `key`, where there is one, names it; `carried` are columns of the output."""

    uri: str
    key: str | None
    carried: pa.Schema

    @property
    def names(self) -> list[str]:
        """Give all of them, each once."""
        return list(dict.fromkeys([self.uri, *([self.key] if self.key else []), *self.carried.names]))

    def __str__(self) -> str:
        keys = f"keys from `{self.key}`" if self.key else "keys are the URIs"
        carried = ", ".join(f"`{name}`" for name in self.carried.names)
        return f"URIs from column `{self.uri}`, {keys}{f', carried: {carried}' if carried else ''}"


def choose_list_columns(schema: pa.Schema, file: str, names: ColumnNames) -> ListColumns:
    """Choose the columns of a list.

    For URIs, the best of: a name like `uri`; a name with such a word in it; any other text. For keys, a name like
    `key`. What is carried is text, whole numbers, other numbers and booleans.

    Args:
        schema: of the list.
        file: its redacted URI, for messages.
        names: columns that are chosen already; `image` is that of URIs.

    Raises:
        ConfigError: there is no such column, two fit equally, or have one name, or one cannot be carried.
    """
    carried = pa.schema([(name, _carried_type(schema, file, name)) for name in dict.fromkeys(names.carry)])
    key = chosen(schema, file, _KEYS, names.key, {names.image, *names.carry} - {names.key})
    uri = chosen(schema, file, _URIS, names.image, {key.name if key else None, *names.carry} - {names.image})
    if uri is None:
        raise ConfigError(
            f"{file} has no column of URIs ({_URIS.takes}); its columns are {described(schema)}; {_URIS.flag} names one"
        )
    return ListColumns(uri=uri.name, key=key.name if key else None, carried=carried)


def _carried_type(schema: pa.Schema, file: str, name: str) -> pa.DataType:
    """Give the type that a carried column has in the output. Raises ConfigError where it cannot be carried."""
    if name not in schema.names:
        raise ConfigError(f"--carry names {name!r}, and {file} has no such column; its columns are {described(schema)}")
    if name in (*masks.MASKS_SCHEMA.names, *masks.ERRORS_SCHEMA.names, "carried"):  # the last on the way to it
        raise ConfigError(f"--carry names {name!r}, which is a column of the output already; rename it in {file}")
    kind = only(schema, file, name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_text(kind):
        return pa.string()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return kind
    raise ConfigError(
        f"--carry names {name!r}, which holds {kind} in {file}: text, numbers and booleans are carried; write it as one"
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _uri_rank(field: pa.Field) -> tuple[int, int]:
    name = field.name.lower()
    if name in _URI_NAMES:
        return 0, _URI_NAMES.index(name)
    return (1, 0) if words_of(field.name) & _URI_WORDS else (2, 0)


def _key_rank(field: pa.Field) -> tuple[int, int] | None:
    return (0, _KEY_NAMES.index(field.name)) if field.name in _KEY_NAMES else None


_URIS = Role(flag="--image-column", rank=_uri_rank, fits=_is_text, takes="text")
_KEYS = Role(flag="--key-column", rank=_key_rank, fits=holds_keys, takes=KEYS)
