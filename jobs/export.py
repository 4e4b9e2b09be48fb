"""Hand masks on to other tools: `python jobs/export.py OUTPUT --to FORMAT --destination URI`.

Needs no Ray. The same command continues an export that was stopped. The last line of stdout is one JSON object. Exit
codes: 0 done; 2 arguments that cannot be used; 1 anything else, such as an output that cannot be read.
"""

import sys

from pipeline.cli import enter_alone, parse
from pipeline.export.export import ExportConfig, export


def main(argv: list[str] | None = None) -> int:
    """Parse, export; returns the exit code."""
    return enter_alone(
        "export",
        lambda: parse(
            ExportConfig, "Hand masks on to other tools.", argv, {"output": "what a run was given as --output"}
        ),
        lambda config: export(config).to_json(),
        interrupted="interrupted; the same command continues from there",
    )


if __name__ == "__main__":
    sys.exit(main())
