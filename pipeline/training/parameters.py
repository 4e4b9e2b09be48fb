"""Choose which parameters of a network learn at which rate (the authors' prototxts for VGG-16 and ResNet-101)."""

from collections import defaultdict
from typing import Any

from torch import nn

from pipeline.models.deeplab import SegmentationModel
from pipeline.training.recipe import Recipe

_BIAS_LR = 2.0
"""Learning rate of a convolution's bias, in units of its weights'. Of the backbones only VGG-16's have biases."""


def parameter_groups(model: SegmentationModel, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the optimiser's groups, each with its `multiplier` of the learning rate and its weight decay.

    Weights 1x; biases 2x without decay; the classifier's weights and biases by the recipe, 10x and 20x, the latter
    without decay; batch normalisation 1x without decay, or not at all.
    """
    classifying = {id(p) for layer in model.head.classifiers() for p in layer.parameters()}
    norms = [p for norm in batch_norms(model) for p in norm.parameters()]
    normalising = {id(p) for p in norms}
    kinds = defaultdict(list)
    for name, parameter in model.named_parameters():
        if id(parameter) not in normalising:
            kinds[id(parameter) in classifying, name.endswith("bias")].append(parameter)
    groups = [
        (kinds[False, False], 1.0, recipe.weight_decay),
        (kinds[False, True], _BIAS_LR, 0.0),
        (kinds[True, False], recipe.head_weight_lr, recipe.weight_decay),
        (kinds[True, True], recipe.head_bias_lr, 0.0),
        ([] if recipe.freeze_bn else norms, 1.0, 0.0),
    ]
    return [
        {"params": parameters, "multiplier": multiplier, "weight_decay": decay}
        for parameters, multiplier, decay in groups
        if parameters
    ]


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """List every batch normalisation in a network."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
