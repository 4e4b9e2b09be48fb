"""Train the built-in model on generated scenes and export it: `deeplab-buckets train-scenes --output URI`.

The command resumes where it was stopped; no scene serves in two steps. The last line of stdout is one JSON object.
With the defaults it takes about 40 minutes on one CPU core and ends near the scores in the built-in model's card.
"""

import json

from pipeline.commands.command import Command
from pipeline.training.scenes_config import ScenesConfig


def _work(config: ScenesConfig) -> dict[str, float | int | str]:
    from pipeline.training.scenes import run

    return run(config)


command = Command(
    name="train-scenes",
    config=ScenesConfig,
    prepare=lambda config: config,
    work=_work,
    said=lambda _, summary: json.dumps(summary),
    uses_ray=False,
    interrupted="interrupted; the same command goes on from the last checkpoint",
)
