"""Score a model: `deeplab-buckets evaluate --data URI --data-format camvid --model NAME_OR_URI`.

Or masks that the main job wrote: `--masks URI` instead of a model. Prints a Markdown table; the last line of stdout is
all scores as JSON, in percent. Exit codes: 0 done; 2 arguments, data, weights, masks or storage that cannot be used; 1
anything else.
"""

from typing import TYPE_CHECKING, Any

from pipeline.commands.command import Command, takes
from pipeline.evaluation.config import EvaluateConfig

if TYPE_CHECKING:
    from pipeline.evaluation.result import Evaluation
    from pipeline.evaluation.run import EvaluationInputs


@takes(EvaluateConfig)
def evaluate(**flags: Any) -> "Evaluation":
    """Score a model, or masks that the main job wrote, on labelled pictures.

    Returns:
        All scores; `to_markdown()` gives the table, `to_json()` a line with all of them in percent.

    Raises:
        PipelineError: something that was given cannot be used, or a picture cannot be scored.
    """
    return command.run(flags)


def _prepare(config: EvaluateConfig) -> "EvaluationInputs":
    from pipeline.evaluation.run import prepare

    return prepare(config)


def _work(ready: "EvaluationInputs") -> "Evaluation":
    from pipeline.evaluation import run

    return run.evaluate(ready)


command = Command(
    name="evaluate",
    config=EvaluateConfig,
    prepare=_prepare,
    work=_work,
    said=lambda _, evaluation: f"{evaluation.to_markdown()}\n{evaluation.to_json()}",
    uses_ray=True,
    sections={
        "what": ("data", "data_format", "split", "model", "masks", "classes", "output", "trimap"),
    },
)
