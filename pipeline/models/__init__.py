"""Build and run DeepLab networks: `load` one to segment with, `build` one to train."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.models.architecture import ARCHITECTURES, Architecture
    from pipeline.models.card import ModelCard
    from pipeline.models.catalogue import overview
    from pipeline.models.deeplab import SegmentationModel
    from pipeline.models.inference import Inference
    from pipeline.models.loading import build, load
    from pipeline.models.network import Network
    from pipeline.models.predictor import Predictor
    from pipeline.models.preprocessing import Preprocessing

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Inference",
    "ModelCard",
    "Network",
    "Predictor",
    "Preprocessing",
    "SegmentationModel",
    "build",
    "load",
    "overview",
]

_FILES = {
    "ARCHITECTURES": "architecture",
    "Architecture": "architecture",
    "Inference": "inference",
    "ModelCard": "card",
    "Network": "network",
    "Predictor": "predictor",
    "Preprocessing": "preprocessing",
    "SegmentationModel": "deeplab",
    "build": "loading",
    "load": "loading",
    "overview": "catalogue",
}
"""Where names are, which are loaded when they are asked for: settings of a job need no torch."""


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
