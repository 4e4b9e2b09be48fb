"""Compare the masks of two outputs: `deeplab-buckets compare OUTPUT_A OUTPUT_B --to PAGE.html`.

The same output twice compares what was written by the runs of its newest day with those of the day before. Needs no
Ray. The last line of stdout is the drift, one JSON object. Exit codes: 0 done; 4 the drift is above --max-drift; 2
arguments that cannot be used; 1 anything else, such as an output that cannot be read.
"""

from typing import Any

from pipeline.commands.command import Command, takes
from pipeline.reports.compare import CompareConfig, Drift
from pipeline.reports.compare import compare as measure


@takes(CompareConfig)
def compare(**flags: Any) -> Drift:
    """Compare the masks of two outputs, A and B; the same output twice compares its newest day with the one before.

    Returns:
        How far B is from A; `check()` raises DriftError where that is more than max_drift.

    Raises:
        PipelineError: something that was given cannot be used, or a storage does not answer.
    """
    return command.run(flags)


def _said(_: CompareConfig, drift: Drift) -> str:
    drift.check()
    return drift.to_json()


command = Command(
    name="compare",
    config=CompareConfig,
    prepare=lambda config: config,
    work=measure,
    said=_said,
    uses_ray=False,
    positional={"output_a": "what a run was given as --output", "output_b": "another one, or the same"},
    sections={
        "what is compared": ("output_a", "output_b", "generation_a", "generation_b", "run_a", "run_b", "images"),
        "what comes of it": ("max_drift", "to", "metrics", "input"),
    },
)
