"""Flags and YAML from a config dataclass, and the same values given in Python."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar, get_args

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from jsonargparse.typing import register_type

from pipeline import storage, text
from pipeline.cli.flags import as_parsed, flags_of
from pipeline.cli.help import help_text, usage
from pipeline.errors import ConfigError
from pipeline.storage import Uri, redact, redact_text

_Config = TypeVar("_Config")

NOTHING: Mapping[str, Any] = MappingProxyType({})

register_type(Uri, serializer=lambda uri: str(redact(uri)), deserializer=Uri)


class Parser(ArgumentParser):
    """Read the values of flags as YAML, as jsonargparse does, but paths and URIs as they stand.

    `config` is the dataclass that it reads; `sections` are those of its help; `needed` are the flags that it cannot do
    without, which jsonargparse hides from argparse while it parses.
    """

    config: type
    sections: Mapping[str, Sequence[str]] = NOTHING
    needed: frozenset[str] = frozenset()

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:  # noqa: ARG002
        """Write the page of --help."""
        return help_text(self, self.config, self.description or "", self.sections)

    def format_usage(self) -> str:
        """Write the line above an error."""
        return usage(self) + "\n"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong with an argument, and end; without credentials, which it may hold."""
        try:
            super().error(redact_text(message), ex)
        except OSError:  # nobody reads it
            self.exit(2)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        value = super()._get_value(action, arg_string)
        _check_settings(action, value)
        return _uri(action.dest, value) if _takes_uri(action) else value

    def _apply_actions(self, cfg: Any, *args: Any, **options: Any) -> Any:
        return super()._apply_actions(_underscored(cfg), *args, **options)

    def _check_value_key(self, action: argparse.Action, value: Any, *args: Any, **options: Any) -> Any:
        _check_settings(action, value)
        if value is None and _is_section(action):
            return {}  # a title with nothing below it
        if _takes_uri(action) and value is not None:
            value = _uri(action.dest, value)
        return super()._check_value_key(action, value, *args, **options)

    def parse_path(self, path: Any, *args: Any, **options: Any) -> Any:
        """Read a file of YAML, whichever encoding of Unicode it has."""
        try:
            return super().parse_path(path, *args, **options)
        except UnicodeDecodeError:  # it reads UTF-8 alone
            content = text.decode(storage.read_bytes(os.path.abspath(path)), str(path))
            return self.parse_string(content, path, *args, **options)

    def parse_string(self, content: str, *args: Any, **options: Any) -> Any:
        """Read YAML, which may be empty. Raises ConfigError where it holds something else than flags."""
        try:
            values = yaml.safe_load(content)
        except yaml.YAMLError:
            values = {}  # jsonargparse says what is wrong
        if not isinstance(values, dict | None):
            kind = type(values).__name__
            raise ConfigError(f"a configuration holds a {kind}, and no flags; write each on a line, as NAME: VALUE")
        # the comment, since jsonargparse takes a title alone for a word
        return super().parse_string("{}" if values is None else f"{content}\n#", *args, **options)


def _takes_uri(action: argparse.Action) -> bool:
    hint = getattr(action, "_typehint", None)
    return Uri in (hint, *get_args(hint))


def _is_section(action: argparse.Action) -> bool:
    """Tell whether an action takes the settings of a dataclass that has flags of its own."""
    return is_dataclass(getattr(action, "basetype", None))


def _check_settings(action: argparse.Action, value: object) -> None:
    """Raise ConfigError for a word, such as the name of a file, or a number, where there should be settings."""
    is_word = isinstance(value, str) and isinstance(_as_yaml(value), str)
    takes_settings = any(is_dataclass(hint) for hint in get_args(getattr(action, "_typehint", None)))
    is_other = not isinstance(value, dict | Namespace | str | None)
    if (takes_settings and is_word) or (_is_section(action) and is_other):
        raise ConfigError(
            f"{action.dest} is {value!r}, and no settings; give these themselves, as '{{NAME: VALUE}}' or by flags of "
            "their own, or a file by --config"
        )


def _as_yaml(value: str) -> object:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return None  # which jsonargparse says itself


def _underscored(values: Any) -> Any:
    """Spell names in a file of YAML with underscores, as the parser takes them; flags have them with dashes too."""
    if not isinstance(values, dict):
        return values
    return {str(name).replace("-", "_"): _underscored(value) for name, value in values.items()}


def _uri(flag: str, value: object) -> Uri:
    """Return the value of a flag as a URI. Raises ConfigError."""
    if not isinstance(value, str):
        raise ConfigError(f"{flag} is {value!r} to YAML, and no path; write it in quotes")
    try:
        return Uri(value)
    except ConfigError as error:
        raise ConfigError(f"{flag}: {error}") from None


def parser_of(
    config: type,
    description: str,
    positional: Mapping[str, str] = NOTHING,
    program: str | None = None,
    sections: Mapping[str, Sequence[str]] = NOTHING,
) -> Parser:
    """Make the parser of a configuration.

    Args:
        config: the dataclass that is read.
        description: of the job, in a sentence.
        positional: what the fields are that stand in front, each a URI, without a flag.
        program: what it is called by; by default the name of the script that runs.
        sections: of --help, see `help_text`.
    """
    parser = Parser(prog=program, description=description)
    parser.config, parser.sections = config, sections
    parser.add_argument("--config", action="config")
    for name, meaning in positional.items():
        parser.add_argument(name, type=Uri, help=meaning)
    parser.add_class_arguments(config, skip=set(positional))
    parser.needed = frozenset(action.dest for action in parser._actions if action.required)
    return parser


def parse(config: type[_Config], description: str, argv: Sequence[str] | None = None) -> _Config:
    """Read a configuration from flags alone, see `read`."""
    return read(parser_of(config, description), config, argv)


def read(parser: Parser, config: type[_Config], argv: Sequence[str] | None = None) -> _Config:
    """Read the configuration a person asks for, by flags, by --config file.yaml, or both; later ones win.

    A flag may be spelt with dashes or underscores, in a file too. An argument that cannot be used ends the process with
    exit code 2, as argparse does.

    Args:
        parser: of the configuration.
        config: the dataclass that is read.
        argv: the arguments; by default those of this process.

    Raises:
        ConfigError: a value that the dataclass refuses, or a path that is none.
    """
    switches = frozenset(flag.name for flag in flags_of(parser) if flag.is_switch)
    try:
        words = as_parsed(sys.argv[1:] if argv is None else argv, switches)
        return _built(parser, config, parser.parse_args(words))
    except (ConfigError, AttributeError, ValueError, RecursionError) as error:  # three of them jsonargparse passes on
        raise ConfigError(redact_text(_reason(error))) from error


def read_values(parser: Parser, config: type[_Config], values: Mapping[str, Any]) -> _Config:
    """Read a configuration from Python: values by the names of fields, dataclasses in them as such or as mappings.

    Raises:
        ConfigError: a name that is none, one that is missing, or a value that cannot be used.
    """
    parser.exit_on_error = False
    plain = {name: asdict(value) if is_dataclass(value) else value for name, value in values.items()}  # type: ignore[arg-type]
    try:
        return _built(parser, config, parser.parse_object(plain))
    except (ConfigError, ArgumentError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(redact_text(_reason(error))) from error


def _built(parser: Parser, config: type[_Config], options: Namespace) -> _Config:
    chosen = parser.instantiate(options).as_dict()
    chosen.pop("config")
    return config(**chosen)


def _reason(error: BaseException) -> str:
    """Say in a line why a value was not read: as a dataclass refused it, or as the reader of YAML failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError):
            return str(cause)
        cause = cause.__cause__
    if isinstance(error, UnicodeDecodeError):
        return "a configuration file is not text in UTF-8; save it as UTF-8"
    if isinstance(error, RecursionError):
        return "a value, or a configuration file, is nested too deeply"
    return f"a value, or a configuration file, cannot be read: {' '.join(str(error).split())}"
