"""The one command line: flags and YAML from a config dataclass, and how every job begins and ends."""

from pipeline.cli.ending import enter, enter_alone
from pipeline.cli.parser import Parser, parse, parser_of, read, read_values

__all__ = ["Parser", "enter", "enter_alone", "parse", "parser_of", "read", "read_values"]
