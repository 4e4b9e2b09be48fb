"""Train a network on labelled pictures: `python jobs/train.py --data URI --data-format camvid --output URI`.

The same command goes on with a run that was stopped. The last line of stdout is the run's summary. Exit codes: 0 done;
2 arguments, data, weights or storage that cannot be used, found before training starts; 1 anything else.
"""

import json
import signal
import sys

from pipeline.batch.run import connected
from pipeline.commandline import parse
from pipeline.errors import ConfigError, PipelineError
from pipeline.training.config import TrainConfig
from pipeline.training.run import prepare, run


def main(argv: list[str] | None = None) -> int:
    """Parse, check, train; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` ends a run as Ctrl-C does
    try:
        ready = prepare(parse(TrainConfig, "Train a network on labelled pictures.", argv))
    except PipelineError as error:
        return _fail(error, code=2)
    try:
        with connected():
            summary = run(ready)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from the last checkpoint", code=1)
    except PipelineError as error:
        return _fail(error, code=2 if isinstance(error, ConfigError) else 1)
    print(json.dumps(summary), flush=True)
    return 0


def _fail(reason: object, code: int) -> int:
    print(f"train: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
