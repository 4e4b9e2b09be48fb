"""Score a network while it is trained: mean IoU at full resolution, without the CRF."""

from collections.abc import Iterable

import torch

from pipeline import logits
from pipeline.data.labelled.pairs import Pixels
from pipeline.metrics import SegmentationScore
from pipeline.models import Inference, Predictor
from pipeline.models.deeplab import SegmentationModel
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
        labels = logits.upsample(grid, height, width, model.geometry).argmax(axis=0)  # (H, W)
        counted.update(mask, labels.astype("uint8"))
    pooled = SegmentationScore(len(model.classes))
    pooled.add(total(torch.from_numpy(counted.matrix).to(device)).cpu().numpy())
    return pooled.mean_iou
