"""Train a network on labelled pictures: `python jobs/train.py --data URI --data-format camvid --output URI`.

The same command goes on with a run that was stopped. The last line of stdout is the run's summary. Exit codes: 0 done;
2 arguments, data, weights or storage that cannot be used, found before training starts; 1 anything else.
"""

import json
import sys

from pipeline.cli import enter, parse
from pipeline.training.config import TrainConfig
from pipeline.training.run import prepare, run


def main(argv: list[str] | None = None) -> int:
    """Parse, check, train; returns the exit code."""
    return enter(
        "train",
        lambda: prepare(parse(TrainConfig, "Train a network on labelled pictures.", argv)),
        lambda ready: json.dumps(run(ready)),
        interrupted="interrupted; the same command goes on from the last checkpoint",
    )


if __name__ == "__main__":
    sys.exit(main())
