"""The one command line: flags and YAML from a config dataclass, and how every job begins and ends."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TextIO, TypeVar, get_args

from jsonargparse import ArgumentParser
from jsonargparse.typing import register_type

from pipeline import storage, text
from pipeline.errors import BudgetError, ConfigError, DriftError, PipelineError
from pipeline.storage import Uri, redact

_Config = TypeVar("_Config")
_Ready = TypeVar("_Ready")


register_type(Uri, serializer=lambda uri: str(redact(uri)), deserializer=Uri)


class _Parser(ArgumentParser):
    """Read the values of flags as YAML, as jsonargparse does, but paths and URIs as they stand."""

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        value = super()._get_value(action, arg_string)
        return _uri(action.dest, value) if _takes_uri(action) else value

    def _check_value_key(self, action: argparse.Action, value: Any, *args: Any, **options: Any) -> Any:
        if _takes_uri(action) and value is not None:
            value = _uri(action.dest, value)
        return super()._check_value_key(action, value, *args, **options)

    def parse_path(self, path: Any, *args: Any, **options: Any) -> Any:
        try:
            return super().parse_path(path, *args, **options)
        except UnicodeDecodeError:  # it reads UTF-8 alone
            content = text.decode(storage.read_bytes(os.path.abspath(path)), str(path))
            return self.parse_string(content, path, *args, **options)


def _takes_uri(action: argparse.Action) -> bool:
    hint = getattr(action, "_typehint", None)
    return Uri in (hint, *get_args(hint))


def _uri(flag: str, value: object) -> Uri:
    """Return the value of a flag as a URI. Raises ConfigError."""
    if not isinstance(value, str):
        raise ConfigError(f"{flag} is {value!r} to YAML, and no path; write it in quotes")
    try:
        return Uri(value)
    except ConfigError as error:
        raise ConfigError(f"{flag}: {error}") from None


def parse(
    config: type[_Config],
    description: str,
    argv: Sequence[str] | None = None,
    positional: Mapping[str, str] = MappingProxyType({}),
) -> _Config:
    """Read the configuration a person asks for, by flags, by --config file.yaml, or both; later ones win.

    A flag may be spelt with dashes or underscores. An argument that cannot be used ends the process with exit code 2,
    as argparse does.

    Args:
        config: the dataclass that is read.
        description: of the job, in a sentence.
        argv: the arguments; by default those of this process.
        positional: what the fields are that stand in front, each a URI, without a flag.

    Raises:
        ConfigError: a value that the dataclass refuses, or a path that is none.
    """
    parser = _Parser(
        description=description,
        epilog="Flags may be written with dashes (--input-format) or underscores. --config takes them as YAML.",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the options below.")
    for name, meaning in positional.items():
        parser.add_argument(name, type=Uri, help=meaning)
    parser.add_class_arguments(config, skip=set(positional))
    try:
        options = parser.parse_args([_with_underscores(word) for word in (sys.argv[1:] if argv is None else argv)])
        chosen = parser.instantiate(options).as_dict()
    except (AttributeError, ValueError, RecursionError) as error:  # what jsonargparse does not foresee
        raise ConfigError(_reason(error)) from error
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


def _with_underscores(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else word


def enter(name: str, prepare: Callable[[], _Ready], work: Callable[[_Ready], str], interrupted: str) -> int:
    """Prepare, connect to Ray, work, and print what came of it; errors become one line of stderr, without a traceback.

    Args:
        name: of the job, in front of its messages.
        prepare: parses the flags and checks everything before Ray starts.
        work: from what `prepare` gave to what is printed on stdout.
        interrupted: the message after Ctrl-C or SIGTERM.

    Returns:
        The exit code: 0 done; 2 something the job was given cannot be used; 3 more failures than are allowed; 4
        more drift than is allowed; 1 anything else.
    """
    from pipeline.runtime import cluster  # here, so that jobs without Ray do not load it

    def ready() -> _Ready:
        cluster.named_cluster()
        return prepare()

    return _entered(name, ready, work, interrupted, cluster.connected)


def enter_alone(name: str, prepare: Callable[[], _Ready], work: Callable[[_Ready], str], interrupted: str) -> int:
    """Do as `enter`, without Ray."""
    return _entered(name, prepare, work, interrupted, nullcontext)


def _entered(
    name: str,
    prepare: Callable[[], _Ready],
    work: Callable[[_Ready], str],
    interrupted: str,
    connected: Callable[[], AbstractContextManager[object]],
) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` ends a run as Ctrl-C does
    stdout = sys.stdout
    said = partial(_said, name, interrupted, stdout)
    with said(PipelineError) as preparing:
        ready = prepare()
    if preparing.code:
        return preparing.code
    # what came of the work is said before Ray ends: a thread that still asks Ray for something then ends the process
    with (
        redirect_stdout(io.StringIO()),
        said(ConfigError) as connecting,
        connected(),
        redirect_stdout(sys.stderr),  # Ray prints what goes wrong in its cluster; once the work is done, none needs it
        said(ConfigError) as working,
    ):
        print(work(ready), file=stdout, flush=True)
    return connecting.code or working.code


@dataclass
class _Ending:
    """The exit code that a part of a job ends with."""

    code: int = 0


@contextmanager
def _said(name: str, interrupted: str, stdout: TextIO, unusable: type[PipelineError]) -> Iterator[_Ending]:
    """Say in a line of stderr what the block raises, and note its exit code: 2 for what is `unusable`."""
    ending = _Ending()
    try:
        yield ending
    except KeyboardInterrupt:
        ending.code = _fail(name, interrupted, code=1)
    except (BudgetError, DriftError) as error:
        print(error.summary, file=stdout, flush=True)
        ending.code = _fail(name, error, code=3 if isinstance(error, BudgetError) else 4)
    except PipelineError as error:
        ending.code = _fail(name, error, code=2 if isinstance(error, unusable) else 1)


def _fail(name: str, reason: object, code: int) -> int:
    print(f"{name}: {reason}", file=sys.stderr, flush=True)
    return code
