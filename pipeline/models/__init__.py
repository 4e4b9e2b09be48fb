"""Build and run DeepLab networks: `load` one to segment with, `build` one to train."""

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
