"""Semantic segmentation of whole buckets of images: DeepLab networks, dense CRF refinement, Ray.

One function a job, with the flags of the command of its name as arguments: `pipeline.segment(input=..., output=...,
model=...)` does what `deeplab-buckets segment` does, and returns its summary. Beside them the parts: `pipeline.models`,
`pipeline.masks`, `pipeline.crf`; and `pipeline.look(output, key)`, which shows a mask in a notebook.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline import masks, models
    from pipeline.commands.compare import compare
    from pipeline.commands.evaluate import evaluate
    from pipeline.commands.export import export
    from pipeline.commands.report import report
    from pipeline.commands.search_crf import search_crf
    from pipeline.commands.segment import segment
    from pipeline.commands.select import select
    from pipeline.commands.train import train
    from pipeline.commands.verify import verify
    from pipeline.refine import crf
    from pipeline.reports.look import look

__all__ = [
    "compare",
    "crf",
    "evaluate",
    "export",
    "look",
    "masks",
    "models",
    "report",
    "search_crf",
    "segment",
    "select",
    "train",
    "verify",
]

_PARTS = {"crf": "refine.crf", "masks": "masks", "models": "models"}


def __getattr__(name: str) -> Any:
    """Load what is asked for: importing the package alone costs next to nothing."""
    if name in _PARTS:
        return import_module(f"{__name__}.{_PARTS[name]}")
    if name == "look":
        return import_module(f"{__name__}.reports.look").look
    if name in __all__:
        return getattr(import_module(f"{__name__}.commands.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
