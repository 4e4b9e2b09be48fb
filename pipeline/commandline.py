"""Flags and YAML from a config dataclass: every job's command line is made here, and no flag is written twice."""

import sys
from collections.abc import Sequence
from typing import TypeVar

from jsonargparse import ArgumentParser
from jsonargparse.typing import register_type

from pipeline.storage import redact

_Config = TypeVar("_Config")


class Uri(str):
    """A path or URI. Where a configuration is printed or written down, credentials in it are not."""

    __slots__ = ()


register_type(Uri, serializer=lambda uri: str(redact(uri)), deserializer=Uri)


def parse(config: type[_Config], description: str, argv: Sequence[str] | None = None) -> _Config:
    """The configuration a person asked for, by flags, by --config file.yaml, or both; later ones win.

    A flag may be spelt with dashes or underscores. An argument that cannot be used ends the process with exit code 2,
    as argparse does.

    Raises:
        ConfigError: a value that the dataclass refuses.
    """
    parser = ArgumentParser(
        description=description,
        epilog="Flags may be written with dashes (--input-format) or underscores. --config takes them as YAML.",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the options below.")
    parser.add_class_arguments(config)
    options = parser.parse_args([_with_underscores(word) for word in (sys.argv[1:] if argv is None else argv)])
    chosen = parser.instantiate(options).as_dict()
    chosen.pop("config")
    return config(**chosen)


def _with_underscores(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else word
