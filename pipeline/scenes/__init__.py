"""Textured scenes with ground truth, so that everything can be run and measured without data from outside."""

from pipeline.scenes.scene import CLASSES, PALETTE, scene
from pipeline.scenes.shards import write_shards

__all__ = ["CLASSES", "PALETTE", "scene", "write_shards"]
