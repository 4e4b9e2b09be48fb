"""The configuration of the demo."""

from dataclasses import dataclass

from pipeline.numbers import check_numbers
from pipeline.storage import Uri

_FOLDER = Uri("demo-output")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Segment generated scenes and compare with the truth.

    Args:
        output: folder for the scenes, the masks, the contact sheet and the report.
        scenes: how many to generate.
        seed: of the first; the built-in model never saw seeds below 900000 in training.
    """

    output: Uri = _FOLDER
    scenes: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
