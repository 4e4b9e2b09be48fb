"""The flags of a parser as a person writes them: with dashes, and those that are on or off without a value."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pipeline.errors import ConfigError
from pipeline.storage import Uri

_YAML_BOOLEANS = ("true", "false")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag, or what stands in front without one.

    Attributes:
        name: of the field, with underscores, below its dataclass: refine.backend.
        hint: the type of its value.
        default: None where there is none.
        text: what it is.
        in_front: whether its value stands in front, without the name.
    """

    name: str
    hint: Any
    default: object
    required: bool
    text: str
    in_front: bool

    @property
    def is_switch(self) -> bool:
        """Tell whether it is on or off, and takes no value."""
        return self.hint is bool

    @property
    def spelled(self) -> tuple[str, ...]:
        """Spell it as on a command line; a switch also the other way round: --recipe.no-freeze-bn."""
        dashed = self.name.replace("_", "-")
        folder, dot, last = dashed.rpartition(".")
        return (f"--{dashed}", f"--{folder}{dot}no-{last}") if self.is_switch else (f"--{dashed}",)

    @property
    def takes_uri(self) -> bool:
        """Tell whether its value is a path or a URI."""
        return Uri in (self.hint, *get_args(self.hint))

    @property
    def choices(self) -> tuple[str, ...]:
        """List its values, where they are few."""
        of_literals = (hint for hint in (self.hint, *get_args(self.hint)) if get_origin(hint) is Literal)
        return tuple(str(value) for hint in of_literals for value in get_args(hint))


def flags_of(parser: argparse.ArgumentParser) -> Iterator[Flag]:
    """List the flags that have a value or are on or off; not --help and its like."""
    needed: frozenset[str] = getattr(parser, "needed", frozenset())
    for action in parser._actions:
        hint = getattr(action, "_typehint", action.type)
        if hint is not None and action.default != argparse.SUPPRESS:
            yield Flag(
                name=action.dest,
                hint=hint,
                default=action.default,
                required=action.required or action.dest in needed,
                text=(action.help or "").replace("%%", "%"),
                in_front=not action.option_strings,
            )


def as_parsed(words: Sequence[str], switches: frozenset[str]) -> list[str]:
    """Spell words as the parser takes them: underscores for dashes, and a value for each switch.

    Args:
        words: as a person gave them.
        switches: names of the flags that take no value.

    Raises:
        ConfigError: a switch was given a value.
    """
    parsed = [_as_parsed(word, switches) for word in words]
    for word, following in zip(parsed, words[1:], strict=False):
        if word.partition("=")[0][2:] in switches and following.lower() in _YAML_BOOLEANS:
            raise ConfigError(_valued(word.partition("=")[0][2:]))
    return parsed


def _as_parsed(word: str, switches: frozenset[str]) -> str:
    name, equals, value = word.partition("=")
    if not name.startswith("--"):
        return word
    name = name[2:].replace("-", "_")
    folder, dot, last = name.rpartition(".")
    opposite = f"{folder}{dot}{last.removeprefix('no_')}"
    if name not in switches and opposite not in switches:
        return f"--{name}{equals}{value}"
    if equals:
        raise ConfigError(_valued(opposite))
    return f"--{opposite}={str(name in switches).lower()}"


def _valued(switch: str) -> str:
    on, off = Flag(name=switch, hint=bool, default=None, required=False, text="", in_front=False).spelled
    return f"{on} takes no value; write {on} or {off} (in YAML, true or false)"
