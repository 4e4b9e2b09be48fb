"""What a shell completes: the flags of a parser, with dashes, and the values of those that have few."""

import argparse

from pipeline.cli.flags import flags_of
from pipeline.cli.parser import Parser


def add_flags(plain: argparse.ArgumentParser, parser: Parser) -> None:
    """Add the flags of a parser to a plain one, which argcomplete reads. Values without choices complete as files."""
    plain.add_argument("--config")
    for flag in flags_of(parser):
        if flag.in_front:
            plain.add_argument(flag.name)
        elif flag.is_switch:
            plain.add_argument(*flag.spelled, action="store_true")
        else:
            plain.add_argument(*flag.spelled, choices=flag.choices or None)
