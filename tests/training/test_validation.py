"""Scoring a network while it is trained: every pixel, in memory that has a bound."""

import tracemalloc
from types import SimpleNamespace

import numpy as np

from pipeline import models
from pipeline.logits import upsample
from pipeline.refine import tiles
from pipeline.scenes import CLASSES
from pipeline.training import validation


def test_a_large_picture_is_scored_on_every_pixel_tile_by_tile(monkeypatch):
    model, size = models.load("scenes"), (200, 330)
    grid = np.random.default_rng(0).normal(size=(len(CLASSES), *model.geometry.grid(*size))).astype(np.float16)
    full = upsample(grid, *size, model.geometry)  # (C, H, W)
    picture = np.zeros((*size, 3), np.uint8), full.argmax(axis=0).astype(np.uint8)
    monkeypatch.setattr(validation, "Predictor", lambda *_: SimpleNamespace(logits=lambda _: [grid]))
    monkeypatch.setattr(tiles, "MAX_TILE", 64)
    tracemalloc.start()
    try:
        assert validation.mean_iou(model, [picture]) == 1.0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < full.nbytes / 2
