"""Segment every image of a bucket: `python jobs/segment_bucket.py --input URI --output URI`.

Also `ray job submit --working-dir . -- python jobs/segment_bucket.py ...`. The last line of stdout is the run's
summary. Exit codes: 0 done; 3 done, but failures exceed the error budget; 2 arguments, configuration, model or storage
that cannot be used, found before any work; 1 anything else.
"""

import signal
import sys

from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.run import forecast, segment
from pipeline.commandline import parse
from pipeline.errors import PipelineError


def main(argv: list[str] | None = None) -> int:
    """Parse, check, run; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` ends a run as Ctrl-C does
    try:
        ready = check(parse(RunConfig, "Segment every image of a bucket into Parquet masks.", argv))
    except PipelineError as error:
        return _fail(error, code=2)
    try:
        if ready.config.dry_run:
            print(forecast(ready).to_json(), flush=True)
            return 0
        summary = segment(ready)
    except KeyboardInterrupt:
        return _fail("interrupted; what was committed stays, and the same command continues from there", code=1)
    except PipelineError as error:
        return _fail(error, code=1)
    print(summary.to_json(), flush=True)
    if summary.exceeds(ready.config.error_budget):
        done = summary.segmented + summary.failed
        return _fail(f"{summary.failed} of {done} images failed; see {summary.output}/errors", code=3)
    return 0


def _fail(reason: object, code: int) -> int:
    print(f"segment_bucket: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
