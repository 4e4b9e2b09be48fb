"""Score a network while it is trained: mean IoU at full resolution, without the CRF."""

from collections.abc import Iterable

import numpy as np
import torch

from pipeline.data.labelled.pairs import Pixels
from pipeline.geometry import Geometry
from pipeline.logits import Floats, best_label, upsample
from pipeline.metrics import SegmentationScore
from pipeline.models import Inference, Predictor
from pipeline.models.deeplab import SegmentationModel
from pipeline.refine.tiles import spans, tile_side
from pipeline.training.loop import total


def mean_iou(model: SegmentationModel, pairs: Iterable[tuple[Pixels, Pixels]]) -> float:
    """Compute the mean IoU, 0 to 1, over the pairs of all processes, where torch.distributed is initialised.

    Args:
        model: on the device where it is scored; it stays as it is.
        pairs: this process's: picture (H, W, 3) and mask (H, W), both uint8.
    """
    device = next(model.parameters()).device
    predictor = Predictor(model, Inference(), device)
    counted = SegmentationScore(len(model.classes))
    for image, mask in pairs:
        [grid] = predictor.logits([image])  # (C, h, w)
        height, width = mask.shape
        counted.update(mask, _labels(grid, height, width, model.geometry))
    pooled = SegmentationScore(len(model.classes))
    pooled.add(total(torch.from_numpy(counted.matrix).to(device)).cpu().numpy())
    return pooled.mean_iou


def _labels(grid: Floats, height: int, width: int, geometry: Geometry) -> Pixels:
    """Give the label of each pixel, (H, W), tile by tile, so that memory is bounded by the tile."""
    labels, tile = np.empty((height, width), np.uint8), tile_side(len(grid))
    for rows in spans(height, tile, margin=0):
        for columns in spans(width, tile, margin=0):
            top, bottom, left, right = rows.start, rows.stop, columns.start, columns.stop
            full = upsample(grid, bottom - top, right - left, geometry, top, left)  # (C, H', W')
            labels[top:bottom, left:right], _ = best_label(full)
    return labels
