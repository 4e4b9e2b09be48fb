"""What no flag and no file is meant to be, and jobs that are given it."""

import dataclasses
import io
import pickle
import typing
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch

from pipeline.cli import Parser
from pipeline.commands.command import Command

Job = Callable[[list[str]], int]

EVERYWHERE = (".nan", "-1", "null")
"""For every flag."""

ODD = (
    *("", "-.inf", "[]", "9" * 5000, "\0", "\udc80", "[" * 2000),
    *(" ", "\t", "-", "--", "0", "1e400", "nan", "~", "true", "{", "{a: b}", "{}", "[a, a]", "[[1]]", "'", "*a", "@"),
    *("[0, .inf, 1]", "[1, 9, 1e-300]", "2026-02-30", "!!python/object/apply:os.system [x]", "&a [*a]", "<<: *x"),
    *("? a", "- a\n- b", "a: b: c", "%YAML 9", "\x1b[31m", "é🙂", "../in", "/dev/null", "/dev/null/x", "%s"),
    *("$$", "a|b", "s3://", "file:", "https://[", "memory://x", "nofs::x://y", "zip://a::b", "x" * 5000),
)
"""For one flag of each kind."""


_PARSERS: dict[str, Parser] = {}
_MADE = Command.parser


def kept_parser(command: Command[Any, Any, Any]) -> Parser:
    """Make the parser of a command once, in place of Command.parser: that takes longer than to read the flags."""
    if command.name not in _PARSERS:
        _PARSERS[command.name] = _MADE(command)
    return _PARSERS[command.name]


def told(job: Job, *flags: str) -> str:
    """Run a job, which must end by itself; returns its messages."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            code = job(list(flags))
        except SystemExit as end:  # as argparse ends
            code = end.code if isinstance(end.code, int) else 0
    assert code in (0, 1, 2, 3, 4)
    assert err.getvalue() or code == 0
    assert "Traceback" not in err.getvalue() + out.getvalue()
    assert "weights_only" not in err.getvalue()
    return err.getvalue()


def flags_of(config: Any, prefix: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Give each flag of a configuration, and the field and type that it sets: jobs share some."""
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        yield prefix + field.name, (field.name, str(hint))
        for part in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(part):
                yield from flags_of(part, f"{prefix}{field.name}.")


def torch_file(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


CONTENTS = {
    "nothing": b"",
    "nulls": bytes(50),
    "UTF-16": "limit: 3\n".encode("utf-16"),
    "UTF-16 without a mark": "limit: 3\n".encode("utf-16-le"),
    "a byte order mark": b"\xef\xbb\xbflimit: 3\n",
    "Latin-1": "limit: 3 # café\n".encode("latin-1"),
    "deep": b"[" * 2000,
    "a list": b"[1, 2]",
    "null": b"null",
    "a long number": b'{"a": ' + b"9" * 5000 + b"}",
    "no day": b"a: 2026-02-30\n",
    "a tag": b"!!python/object/apply:os.system [echo]",
    "keys that are none": b"? [a]\n: 3\nnull: 4\n",
    "itself": b"config: f.yaml\nrefine: f.yaml\n",
    "parts that are none": b"inference: 3\nrefine: [1]\nrecipe: null\n",
    "a pickle": pickle.dumps({"a": 1}, 2),
    "code": b"\x80\x02cos\nsystem\n(X\x04\0\0\0echotR.",
    "half a torch file": torch_file({"a": torch.zeros(2)})[:200],
    "no weights": torch_file({"a": torch.zeros(2), "args": [1]}),
    "a huge header": b"\xff" * 8 + b"{",
    "a path elsewhere": b"../../../etc/passwd\n",
}
