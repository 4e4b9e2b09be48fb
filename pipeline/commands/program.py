"""The installed program: `deeplab-buckets COMMAND`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from pipeline.commands import COMMANDS, PROGRAM
from pipeline.runtime.console import is_interrupt, own_streams, tell

_MORE = {
    "COMMAND --help": "the flags of a command",
    "--version": "the version that is installed",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that is asked for; returns its exit code, and 2 where there is no such command."""
    with own_streams():
        try:
            return _run(sys.argv[1:] if argv is None else list(argv))
        except (KeyboardInterrupt, RuntimeError) as error:  # while the command was loaded
            if not is_interrupt(error):
                raise
            tell(f"{PROGRAM}: interrupted", sys.stderr)
            return 1


def _run(words: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    if not words or words[0] in ("-h", "--help"):
        tell(_overview(), sys.stdout)
        return 0 if words else 2
    if words[0] == "--version":
        tell(f"{PROGRAM} {version(PROGRAM)}", sys.stdout)
        return 0
    name = words[0].replace("_", "-")
    if name not in COMMANDS:
        tell(f"{PROGRAM}: there is no command {words[0]!r}; choose from: {', '.join(COMMANDS)}", sys.stderr)
        return 2
    return int(loaded(name).main(words[1:]))


def loaded(name: str) -> Any:
    """Load a command: the `command` of its file."""
    return import_module(f"pipeline.commands.{name.replace('-', '_')}").command


def _overview() -> str:
    width = max(map(len, (*COMMANDS, *_MORE)))
    listed = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    more = [f"  {name:{width}}  {what}" for name, what in _MORE.items()]
    return "\n".join([f"usage: {PROGRAM} COMMAND [flags]", "", "commands:", *listed, "", "more:", *more])


def _complete() -> None:
    """Answer the shell that asks how a line goes on, and end."""
    import argcomplete

    from pipeline.cli.completion import add_flags

    words = os.environ["COMP_LINE"].split()
    parser = argparse.ArgumentParser(PROGRAM)
    commands = parser.add_subparsers()
    for name, what in COMMANDS.items():
        plain = commands.add_parser(name, help=what)
        if name in words[1:2]:
            add_flags(plain, loaded(name).parser())
    argcomplete.autocomplete(parser)
