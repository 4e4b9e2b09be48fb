"""Search the dense CRF's parameters: `python jobs/search_crf.py --data URI --data-format voc --model M --output URI`.

OUTPUT/crf.yaml is for --config of the other jobs; OUTPUT/crf.png shows what was tried. The last line of stdout is the
summary, one JSON object, scores in percent. Exit codes: 0 done; 2 arguments, data, weights or storage that cannot be
used; 1 anything else.
"""

import json
import sys

from pipeline.cli import enter, parse
from pipeline.evaluation.crf_search import prepare, search
from pipeline.evaluation.search_config import SearchConfig


def main(argv: list[str] | None = None) -> int:
    """Parse, check, search; returns the exit code."""
    return enter(
        "search_crf",
        lambda: prepare(parse(SearchConfig, "Search the dense CRF's parameters on labelled pictures.", argv)),
        lambda ready: json.dumps(search(ready)),
        interrupted="interrupted",
    )


if __name__ == "__main__":
    sys.exit(main())
