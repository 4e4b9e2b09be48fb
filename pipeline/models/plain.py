"""Build the parts of a model card from plain JSON values, each checked against the annotation of its field."""

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pipeline.errors import ConfigError
from pipeline.numbers import is_number

_T = TypeVar("_T")
_KINDS: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    NoneType: "null",
    tuple: "a list",
    Mapping: "an object",
}


def build(kind: type[_T], plain: object, name: str) -> _T:
    """Build a dataclass from a JSON object that has its fields.

    Args:
        kind: a dataclass whose fields are str, bool, int, float, None, literals, tuples, mappings or their unions; or
            dataclasses, which are built already.
        plain: what json.loads gave, or parts of it built already.
        name: of the object, for messages.

    Raises:
        ConfigError: a field is missing, unknown, or of another type; or the dataclass refuses its value.
    """
    given = plain_object(plain, name)
    hints = get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for field in known.values():
        if field.name not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{name} has no field {field.name!r}")
    for field_name in given:
        if field_name not in known:
            raise ConfigError(f"{name} has an unknown field {field_name!r}; remove it. Known: {', '.join(known)}")
    return kind(**{key: value_of(hints[key], value, f"{name}.{key}") for key, value in given.items()})


def plain_object(plain: object, name: str) -> Mapping[str, Any]:
    """Return a JSON object as it is. Raises ConfigError for anything else."""
    fields: Mapping[str, Any] = _checked(Mapping, plain, name)
    return fields


def value_of(kind: Any, plain: object, name: str) -> Any:
    """Return `plain` as a value of the annotation `kind`: lists as tuples, all else as it is. Raises ConfigError."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        if plain not in arguments:
            raise ConfigError(f"{name} is {plain!r}; it must be {' or '.join(map(repr, arguments))}")
        return plain
    if origin is UnionType:
        return value_of(next((one for one in arguments if _is(one, plain)), arguments[0]), plain, name)
    checked = _checked(origin, plain, name)
    if origin is Mapping:
        return {key: value_of(arguments[1], value, f"{name}.{key}") for key, value in checked.items()}
    if origin is tuple:
        kinds = [arguments[0]] * len(checked) if arguments[-1] is ... else arguments
        if len(kinds) != len(checked):
            raise ConfigError(f"{name} is {plain!r}; it must have {len(kinds)} values")
        items = enumerate(zip(kinds, checked, strict=True))
        return tuple(value_of(one, item, f"{name}[{index}]") for index, (one, item) in items)
    return checked


def _checked(kind: Any, plain: Any, name: str) -> Any:
    if not _is(kind, plain):
        raise ConfigError(f"{name} is {plain!r}; it must be {_KINDS.get(kind, getattr(kind, '__name__', kind))}")
    return plain


def _is(kind: Any, plain: object) -> bool:
    """Tell whether a JSON value is of a type: True is no number, and a whole number is one with a point too."""
    origin = get_origin(kind) or kind
    if origin is float:
        return is_number(plain)
    if origin is int:
        return isinstance(plain, int) and not isinstance(plain, bool)
    return isinstance(plain, list | tuple if origin is tuple else origin)
