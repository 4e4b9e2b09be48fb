"""Write a report of an output to look at: `python jobs/report.py OUTPUT`.

One HTML file with everything in it, at OUTPUT/report.html or where --to says; needs no Ray. The last line of stdout is
one JSON object, with the report's place. Exit codes: 0 done; 2 arguments that cannot be used; 1 anything else, such as
an output that cannot be read.
"""

import sys

from pipeline.cli import enter_alone, parse
from pipeline.report.report import ReportConfig, report


def main(argv: list[str] | None = None) -> int:
    """Parse, write; returns the exit code."""
    return enter_alone(
        "report",
        lambda: parse(
            ReportConfig, "Write a report of an output.", argv, {"output": "what a run was given as --output"}
        ),
        lambda config: report(config).to_json(),
        interrupted="interrupted; nothing was written",
    )


if __name__ == "__main__":
    sys.exit(main())
