"""Train a network on labelled pictures: `deeplab-buckets train --data URI --data-format camvid --output URI`.

The same command goes on with a run that was stopped. The last line of stdout is the run's summary. Exit codes: 0 done;
2 arguments, data, weights or storage that cannot be used, found before training starts; 1 anything else.
"""

import json
from typing import TYPE_CHECKING, Any

from pipeline.commands.command import Command, takes
from pipeline.training.config import TrainConfig

if TYPE_CHECKING:
    from pipeline.training.run import TrainingInputs


@takes(TrainConfig)
def train(**flags: Any) -> dict[str, Any]:
    """Train a network on labelled pictures, on the cluster that RAY_ADDRESS names or a local one.

    Returns:
        The run's summary: where the weights are, and how good the best checkpoint is.

    Raises:
        PipelineError: something that was given cannot be used, or the run cannot go on; the same call goes on from its
            last checkpoint.
    """
    return command.run(flags)


def _prepare(config: TrainConfig) -> "TrainingInputs":
    from pipeline.training.run import prepare

    return prepare(config)


def _work(ready: "TrainingInputs") -> dict[str, Any]:
    from pipeline.training.run import run

    return run(ready)


command = Command(
    name="train",
    config=TrainConfig,
    prepare=_prepare,
    work=_work,
    said=lambda _, summary: json.dumps(summary),
    uses_ray=True,
    interrupted="interrupted; the same command goes on from the last checkpoint",
    sections={
        "what": ("data", "data_format", "output", "name", "model", "init", "classes", "licence"),
        "which pictures": ("split", "validation_split"),
        "how the run goes": ("workers", "max_failures"),
    },
)
