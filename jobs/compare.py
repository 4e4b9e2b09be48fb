"""Compare the masks of two outputs: `python jobs/compare.py OUTPUT_A OUTPUT_B --to PAGE.html`.

The same output twice compares its newest run with the one before. Needs no Ray. The last line of stdout is the drift,
one JSON object. Exit codes: 0 done; 4 the drift is above --max-drift; 2 arguments that cannot be used; 1 anything else,
such as an output that cannot be read.
"""

import sys

from pipeline.cli import enter_alone, parse
from pipeline.report.compare import CompareConfig, compare

POSITIONAL = {"output_a": "what a run was given as --output", "output_b": "another one, or the same"}


def main(argv: list[str] | None = None) -> int:
    """Parse, compare; returns the exit code."""
    return enter_alone(
        "compare",
        lambda: parse(CompareConfig, "Compare the masks of two outputs.", argv, POSITIONAL),
        _compare,
        interrupted="interrupted",
    )


def _compare(config: CompareConfig) -> str:
    drift = compare(config)
    drift.check()
    return drift.to_json()


if __name__ == "__main__":
    sys.exit(main())
