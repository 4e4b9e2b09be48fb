"""Search the dense CRF's parameters: `python jobs/search_crf.py --data URI --data-format voc --model M --output URI`.

OUTPUT/crf.yaml is for --config of the other jobs; OUTPUT/crf.png shows what was tried. The last line of stdout is the
summary, one JSON object, scores in percent. Exit codes: 0 done; 2 arguments, data, weights or storage that cannot be
used; 1 anything else.
"""

import json
import signal
import sys

from pipeline.batch.run import connected
from pipeline.commandline import parse
from pipeline.errors import ConfigError, PipelineError
from pipeline.evaluation.crf_search import prepare, search
from pipeline.evaluation.search_config import SearchConfig


def main(argv: list[str] | None = None) -> int:
    """Parse, check, search; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` ends a run as Ctrl-C does
    try:
        ready = prepare(parse(SearchConfig, "Search the dense CRF's parameters on labelled pictures.", argv))
    except PipelineError as error:
        return _fail(error, code=2)
    try:
        with connected():
            summary = search(ready)
    except KeyboardInterrupt:
        return _fail("interrupted", code=1)
    except PipelineError as error:
        return _fail(error, code=2 if isinstance(error, ConfigError) else 1)
    print(json.dumps(summary), flush=True)
    return 0


def _fail(reason: object, code: int) -> int:
    print(f"search_crf: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
