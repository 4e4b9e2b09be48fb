"""Score a model on labelled pictures: `python jobs/evaluate.py --data URI --data-format camvid --model NAME_OR_URI`.

Or masks that the main job wrote: `--masks URI` instead of a model. Prints a Markdown table; the last line of stdout is
all scores as JSON, in percent. Exit codes: 0 done; 2 arguments, data, weights, masks or storage that cannot be used; 1
anything else.
"""

import sys

from pipeline.cli import enter, parse
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.run import EvaluationInputs, evaluate, prepare


def main(argv: list[str] | None = None) -> int:
    """Parse, check, score; returns the exit code."""
    return enter(
        "evaluate",
        lambda: prepare(parse(EvaluateConfig, "Score a model, or existing masks, on labelled pictures.", argv)),
        _scores,
        interrupted="interrupted",
    )


def _scores(ready: EvaluationInputs) -> str:
    evaluation = evaluate(ready)
    return f"{evaluation.to_markdown()}\n{evaluation.to_json()}"


if __name__ == "__main__":
    sys.exit(main())
