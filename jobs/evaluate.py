"""Score a model on labelled pictures: `python jobs/evaluate.py --data URI --data-format camvid --model NAME_OR_URI`.

Or masks that the main job wrote: `--masks URI` instead of a model. Prints a Markdown table; the last line of stdout is
all scores as JSON, in percent. Exit codes: 0 done; 2 arguments, data, weights, masks or storage that cannot be used; 1
anything else.
"""

import signal
import sys

from pipeline.batch.run import connected
from pipeline.commandline import parse
from pipeline.errors import ConfigError, PipelineError
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.run import evaluate, prepare


def main(argv: list[str] | None = None) -> int:
    """Parse, check, score; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` ends a run as Ctrl-C does
    try:
        ready = prepare(parse(EvaluateConfig, "Score a model, or existing masks, on labelled pictures.", argv))
    except PipelineError as error:
        return _fail(error, code=2)
    try:
        with connected():
            found = evaluate(ready)
    except KeyboardInterrupt:
        return _fail("interrupted", code=1)
    except PipelineError as error:
        return _fail(error, code=2 if isinstance(error, ConfigError) else 1)
    print(found.to_markdown())
    print(found.to_json(), flush=True)
    return 0


def _fail(reason: object, code: int) -> int:
    print(f"evaluate: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
