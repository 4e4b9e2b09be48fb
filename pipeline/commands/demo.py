"""The main job on generated scenes, with the truth beside it: `deeplab-buckets demo --output FOLDER`.

Needs neither a bucket nor a network. The job runs twice, without and with the dense CRF, to show what the CRF gains.
"""

from pipeline.commands.command import Command
from pipeline.evaluation.demo_config import DemoConfig


def _work(config: DemoConfig) -> str:
    from pipeline.evaluation.demo import demo

    return demo(config)


command = Command(
    name="demo",
    config=DemoConfig,
    prepare=lambda config: config,
    work=_work,
    said=lambda _, told: told,
    uses_ray=True,
    interrupted="interrupted; the same command continues from there",
)
