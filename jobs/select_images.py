"""Choose the images most worth labelling: `python jobs/select_images.py OUTPUT --count N --by RULE --to LIST.csv`.

Needs no Ray. --keys of jobs/export.py and --only-keys of jobs/segment_bucket.py take the list. The last line of stdout
is one JSON object. Exit codes: 0 done; 2 arguments that cannot be used; 1 anything else, such as an output that cannot
be read. It is not called select.py: beside the other jobs that would hide Python's own module from them.
"""

import sys

from pipeline.cli import enter_alone, parse
from pipeline.export.selection import SelectConfig, select


def main(argv: list[str] | None = None) -> int:
    """Parse, choose; returns the exit code."""
    words = {"output": "what a run was given as --output"}
    return enter_alone(
        "select_images",
        lambda: parse(SelectConfig, "Choose the images of an output that are most worth labelling.", argv, words),
        lambda config: select(config).to_json(),
        interrupted="interrupted; nothing was written",
    )


if __name__ == "__main__":
    sys.exit(main())
