"""Which values of a table name pictures, and the one text that each of them has."""

import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa

KEYS = "text, whole numbers, categories, UUIDs or bytes"
"""What `holds_keys` takes, in words."""

_UUID_BYTES = 16
_HEX = "\\x"


def holds_keys(kind: pa.DataType) -> bool:
    """Tell whether values of type `kind` can name pictures: texts, integers, UUIDs, bytes, and categories of these."""
    return _text_of(kind) is not None


def texts(values: pa.Array) -> list[str | None]:
    """Give each value as text, null as None. Different values of a type that `holds_keys` have different texts.

    Integers are decimal and UUIDs canonical (RFC 9562), also where they are 16 bytes of fixed size. Other bytes are
    read as UTF-8; what is none is written as PostgreSQL writes bytes, `\\x` and two hexadecimal digits a byte, and so
    is what begins with `\\x` itself.
    """
    text = _text_of(values.type)
    assert text is not None
    return [None if value is None else text(value) for value in values.to_pylist()]


def _text_of(kind: pa.DataType) -> Callable[[Any], str] | None:
    if pa.types.is_dictionary(kind):
        return _text_of(kind.value_type)
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == _UUID_BYTES:
        return _uuid
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if is_text or pa.types.is_integer(kind) or kind == pa.uuid():
        return str
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return _bytes if is_bytes or pa.types.is_fixed_size_binary(kind) else None


def _uuid(value: bytes) -> str:
    return str(uuid.UUID(bytes=value))


def _bytes(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = _HEX
    return f"{_HEX}{value.hex()}" if text.startswith(_HEX) else text
