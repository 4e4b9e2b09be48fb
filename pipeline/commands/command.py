"""A command: its flags and its work, called from a command line or from Python."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Generic, ParamSpec, TypeVar, cast

from pipeline.cli import Parser, enter, enter_alone, parser_of, read, read_values
from pipeline.commands import COMMANDS, PROGRAM
from pipeline.runtime.connection import connection

Config = TypeVar("Config")
Ready = TypeVar("Ready")
Result = TypeVar("Result")
Flags = ParamSpec("Flags")

OUTPUT = {"output": "what a run was given as --output"}


@dataclass(frozen=True, kw_only=True)
class Command(Generic[Config, Ready, Result]):
    """Say what a command takes and does. Its file imports what the work needs inside functions, so --help is quick.

    Attributes:
        name: in COMMANDS.
        config: the dataclass that is its flags.
        prepare: opens and checks everything that it needs, before the work.
        work: gives the result.
        said: what is printed of it. A result that has an exit code of its own is raised as a VerdictError.
        uses_ray: whether it works on a Ray cluster.
        interrupted: the message after Ctrl-C or SIGTERM.
        positional: what the fields are that stand in front without a flag.
        sections: of --help: titles and names of fields.
    """

    name: str
    config: type[Config]
    prepare: Callable[[Config], Ready]
    work: Callable[[Ready], Result]
    said: Callable[[Ready, Result], str]
    uses_ray: bool
    interrupted: str = "interrupted"
    positional: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def parser(self) -> Parser:
        """Make the parser of its flags."""
        return parser_of(self.config, COMMANDS[self.name], self.positional, f"{PROGRAM} {self.name}", self.sections)

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Parse, prepare, work and print; returns the exit code."""
        begin = enter if self.uses_ray else enter_alone
        return begin(
            self.name,
            lambda: self._prepared(read(self.parser(), self.config, argv)),
            lambda ready: self.said(ready, self.work(ready)),
            self.interrupted,
        )

    def run(self, values: Mapping[str, Any]) -> Result:
        """Do the same from Python: values by the names of flags. Raises PipelineError."""
        config = read_values(self.parser(), self.config, values)
        with connection() if self.uses_ray else nullcontext():
            return self.work(self._prepared(config))

    def _prepared(self, config: Config) -> Ready:
        if self.uses_ray:
            from pipeline.runtime.cluster import named_cluster  # here, so that --help does not load Ray

            named_cluster()
        return self.prepare(config)


def _arguments(config: type) -> str:
    """Gather the documentation of a configuration's fields, those that it inherits last."""
    documented = [inspect.cleandoc(base.__doc__ or "") for base in config.__mro__ if is_dataclass(base)]
    sections = [text.partition("Args:\n")[2].partition("\n\n")[0] for text in documented]
    return "\n".join(["Args:", *filter(None, sections)])


def takes(config: Callable[Flags, object]) -> Callable[[Callable[..., Result]], Callable[Flags, Result]]:
    """Give a function the arguments of a configuration, and their documentation."""

    def taking(function: Callable[..., Result]) -> Callable[Flags, Result]:
        summary, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
        function.__doc__ = "\n\n".join([summary, _arguments(cast(type, config)), rest])
        parameters = list(inspect.signature(config).parameters.values())
        result = inspect.signature(function).return_annotation
        function.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
        return function

    return taking
