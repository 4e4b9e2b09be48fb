"""What --help prints: the flags in sections, each in a line or two; the documents say the rest."""

import argparse
import re
import shutil
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from pipeline.cli.flags import Flag, flags_of

_COLUMN = 30
_NARROWEST, _WIDEST = 60, 110
_OTHERS = "flags"
_MORE = {
    "--config FILE": "YAML with any of these flags; what stands behind it on the command line wins",
    "--print-config": "print what the flags and files before it say, as YAML",
    "--help": "print this",
}


def help_text(
    parser: argparse.ArgumentParser, config: type, description: str, sections: Mapping[str, Sequence[str]]
) -> str:
    """Write the page of --help.

    Args:
        parser: of the configuration.
        config: the dataclass; fields that it inherits have a section named after the class that they come from.
        description: of the job, in a sentence.
        sections: titles, and the names of the fields that stand there. A field that is in none is under `flags`; those
            of a dataclass in a field are under what the documentation says of that field.
    """
    width = min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
    titles = _inherited(config) | {name: title for title, names in sections.items() for name in names}
    nested = {
        action.dest.partition(".")[0]: group.title
        for group in parser._action_groups
        for action in group._group_actions
        if "." in action.dest
    }
    by_title: dict[str, list[Flag]] = defaultdict(list)
    for flag in flags_of(parser):
        first = flag.name.partition(".")[0]
        by_title[str(nested[first]) if first in nested else titles.get(first, _OTHERS)].append(flag)
    order = [*sections, _OTHERS, *(title for title in by_title if title not in sections)]
    blocks = [usage(parser), description]
    for title in dict.fromkeys(title for title in order if by_title[title]):
        blocks.append("\n".join([f"{title}:", *(_described(flag, width) for flag in by_title[title])]))
    blocks.append("\n".join(["more:", *(_line(left, right, width) for left, right in _MORE.items())]))
    return "\n\n".join(blocks) + "\n"


def usage(parser: argparse.ArgumentParser) -> str:
    """Say in a line how the job is called: with what it needs."""
    needed = [_metavar(flag) if flag.in_front else _left(flag) for flag in flags_of(parser) if flag.required]
    return " ".join(["usage:", parser.prog, *needed, "[flags]"])


def _inherited(config: type) -> dict[str, str]:
    """Give the title of each field that a class below the configuration declares: that class's first sentence."""
    titles = {}
    for base in reversed(config.__mro__[1:]):
        if is_dataclass(base):
            sentence = _beginning(base.__doc__ or "", ends=".:")
            titles.update({field.name: sentence[:1].lower() + sentence[1:] for field in fields(base)})
    own = vars(config).get("__annotations__", {})
    return {name: title for name, title in titles.items() if name not in own}


def _left(flag: Flag) -> str:
    if flag.in_front:
        return _metavar(flag)
    if flag.is_switch:
        return flag.spelled[1 if flag.default is True else 0]
    return f"{flag.spelled[0]} {_metavar(flag)}"


def _described(flag: Flag, width: int) -> str:
    """Describe a flag with all that is said of it, where that takes two lines at most, and else with the beginning."""
    whole = _line(_left(flag), _right(flag, flag.text.strip().removesuffix(".")), width)
    return whole if whole.count("\n") < 2 else _line(_left(flag), _right(flag, _beginning(flag.text, ends=".;")), width)


def _right(flag: Flag, text: str) -> str:
    if flag.is_switch:
        return f"do not {text}" if flag.default is True else text
    if flag.choices:
        text += f" {{{', '.join(flag.choices)}}}"
    return text if flag.default in (None, (), "") else f"{text} [{_plain(flag.default)}]"


def _beginning(text: str, ends: str) -> str:
    """Give the beginning of a text that can stand for it: up to the first of these marks that ends a word."""
    return re.split(rf"[{ends}](?:\s|$)", text.strip(), maxsplit=1)[0]


def _plain(default: object) -> str:
    if isinstance(default, float):
        return f"{default:g}"
    return str(list(default)) if isinstance(default, tuple) else str(default)


def _metavar(flag: Flag) -> str:
    if flag.in_front:
        return flag.name.upper()
    if flag.takes_uri:
        return "URI"
    if flag.choices:
        return "NAME"
    kinds = (flag.hint, *get_args(flag.hint))
    plain: dict[Any, str] = {int: "N", float: "X", str: "TEXT"}
    return next((plain[kind] for kind in kinds if kind in plain), "YAML")


def _line(left: str, right: str, width: int) -> str:
    lines = textwrap.wrap(right, width - _COLUMN, break_long_words=False, break_on_hyphens=False) or [""]
    indent = " " * _COLUMN
    if len(left) + 4 > _COLUMN:
        return "\n".join([f"  {left}", *(indent + line for line in lines)])
    return "\n".join([f"  {left}".ljust(_COLUMN) + lines[0], *(indent + line for line in lines[1:])])
