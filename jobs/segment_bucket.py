"""Segment every image of a bucket: `python jobs/segment_bucket.py --input URI --output URI --model NAME_OR_URI`.

Also `ray job submit --working-dir . -- python jobs/segment_bucket.py ...`. The last line of stdout is the run's
summary. Exit codes: 0 done; 3 more failures than the error budget allows, at the end or of all that is to do; 2
arguments, configuration, model or storage that cannot be used, found before any work; 1 anything else.
"""

import sys

from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import Preflight, check
from pipeline.batch.run import forecast, segment
from pipeline.cli import enter, parse


def main(argv: list[str] | None = None) -> int:
    """Parse, check, run; returns the exit code."""
    return enter(
        "segment_bucket",
        lambda: check(parse(RunConfig, "Segment every image of a bucket into Parquet masks.", argv)),
        _segment,
        interrupted="interrupted; what was committed stays, and the same command continues from there",
    )


def _segment(ready: Preflight) -> str:
    if ready.config.dry_run:
        return forecast(ready).to_json()
    summary = segment(ready)
    summary.check(ready.config.budget)
    return summary.to_json()


if __name__ == "__main__":
    sys.exit(main())
