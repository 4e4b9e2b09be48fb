"""Which layers learn at which rate: the authors' multipliers, network by network."""

import pytest

from pipeline import models
from pipeline.training.parameters import parameter_groups
from pipeline.training.recipe import Recipe

CLASSES = ("ground", "tree", "sky")
ASPP = [f"head.branches.{n}" for n in range(4)]
NETWORKS = {
    "deeplabv2-vgg16-aspp-l": [f"{branch}.fc8" for branch in ASPP],
    "deeplabv2-vgg16-largefov": ["head.branches.0.fc8"],
    "deeplabv2-resnet50-aspp": ASPP,
    "deeplabv2-efficientnet-lite0-aspp": ASPP,
    "deeplab-efficientnet-lite0-decoder": ["head.classifier"],
    "deeplab-efficientnet-lite2-decoder": ["head.classifier"],
    "deeplabv3-resnet50": ["head.classifier"],
}
"""And the layers of each that give the logits."""


def rates(model, recipe):
    """(multiplier, weight decay) of each parameter that is trained, by name; each must be in one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, recipe)
    pairs = [(names[id(p)], (group["multiplier"], group["weight_decay"])) for group in groups for p in group["params"]]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return models.build(request.param, CLASSES), NETWORKS[request.param]


def test_the_classifier_learns_fast_and_no_bias_decays(network):
    model, classifier = network
    for name, rate in rates(model, Recipe()).items():
        layer, _, kind = name.rpartition(".")
        fast = {"weight": (10.0, 5e-4), "bias": (20.0, 0.0)}
        slow = {"weight": (1.0, 5e-4), "bias": (2.0, 0.0)}
        assert rate == (fast if layer in classifier else slow)[kind], name


def test_what_is_frozen_is_batch_normalisation_alone(network):
    model, _ = network
    everything, frozen = (rates(model, Recipe(freeze_bn=freeze)) for freeze in (False, True))
    assert everything.keys() == {name for name, _ in model.named_parameters()}
    norms = everything.keys() - frozen.keys()
    assert norms == {name for name in everything if name.rpartition(".")[0].endswith("bn")}
    assert all(everything[name] == (1.0, 0.0) for name in norms)


def test_vgg_has_biases_in_its_backbone_and_in_fc6_and_fc7():
    by_name = rates(models.build("deeplabv2-vgg16-largefov", CLASSES), Recipe())
    for name in ("backbone.conv1_1", "backbone.conv5_3", "head.branches.0.fc6", "head.branches.0.fc7"):
        assert (by_name[f"{name}.weight"], by_name[f"{name}.bias"]) == ((1.0, 5e-4), (2.0, 0.0))
