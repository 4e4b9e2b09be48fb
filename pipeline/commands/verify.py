"""Recount an output: `deeplab-buckets verify OUTPUT [--repair]`.

The last line of stdout is the count, one JSON object; problems go to stderr, a line each. Exit codes: 0 sound; 1 there
are problems, or were before --repair set their files aside; 2 the output cannot be read.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from pipeline import masks, storage
from pipeline.commands.command import OUTPUT, Command, takes
from pipeline.errors import ProblemsError
from pipeline.masks import Verification
from pipeline.runtime.progress import say
from pipeline.storage import Uri


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Recount an output, row by row, from its files alone.

    Args:
        output: of a run.
        repair: move bad files to OUTPUT/_quarantine; the next run does their images again.
    """

    output: Uri
    repair: bool = False


@dataclass(frozen=True, kw_only=True)
class _Counted:
    output: str
    repair: bool
    verification: Verification


@takes(VerifyConfig)
def verify(**flags: Any) -> Verification:
    """Recount an output, row by row, from its files alone.

    Returns:
        What it holds, and what is wrong; without problems it is sound.

    Raises:
        PipelineError: it cannot be read.
    """
    return command.run(flags)


def _prepare(config: VerifyConfig) -> _Counted:
    output = storage.normalize(config.output)
    return _Counted(output=output, repair=config.repair, verification=masks.verify(output))


def _work(counted: _Counted) -> Verification:
    for problem in counted.verification.problems:
        say(f"{storage.redact(problem.uri)}: {problem.what}")
    if counted.repair:
        for moved in masks.quarantine(counted.output, counted.verification):
            say(f"set aside: {storage.redact(moved)}")
    return counted.verification


def _said(counted: _Counted, verification: Verification) -> str:
    line = json.dumps(asdict(verification) | {"problems": len(verification.problems)})
    if verification.problems:
        raise ProblemsError(f"{storage.redact(counted.output)} has {len(verification.problems)} problems", line)
    return line


command = Command(
    name="verify",
    config=VerifyConfig,
    prepare=_prepare,
    work=_work,
    said=_said,
    uses_ray=False,
    positional=OUTPUT,
)
