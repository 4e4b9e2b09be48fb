"""The network ready to predict: folded it computes the same logits, and the model that it came from stays as it is."""

from typing import Literal

import pytest
import torch
from torch import nn

from pipeline import models
from pipeline.models import ARCHITECTURES, Inference, Predictor, SegmentationModel
from pipeline.models.built_in import built_in_names
from pipeline.models.ready import folded
from tests.helpers.same_logits import assert_same_logits


def draw_statistics(model: SegmentationModel) -> None:
    """Give each batch normalisation what training could leave it with."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
            nn.init.normal_(norm.running_mean, std=0.2)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_folded_is_the_same_network(name: str) -> None:
    torch.manual_seed(0)
    model = models.build(name, ["a", "b", "c"])
    draw_statistics(model)
    ready = folded(model)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in ready.modules())
    x = torch.randn(2, 3, 33, 49)
    with torch.inference_mode():
        assert_same_logits(ready(x), model.eval()(x), relative=1e-5)


@pytest.mark.parametrize("name", built_in_names())
def test_the_built_in_models_folded_are_the_same_networks(name: str) -> None:
    model = models.load(name)
    x = torch.randn(1, 3, 97, 129, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert_same_logits(folded(model)(x), model(x), relative=1e-5)


def test_a_predictor_leaves_its_model_alone(model: SegmentationModel) -> None:
    """Its digest names what it has segmented: outputs written before are those of the same generation."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    digest = model.digest
    model.train()
    Predictor(model, Inference(precision="bfloat16"))
    assert model.training
    model.eval()
    assert model.digest == digest
    assert model.state_dict().keys() == before.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == before[name].dtype


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_weights_are_stored_as_the_device_takes_them(
    model: SegmentationModel, precision: Literal["float32", "bfloat16"], dtype: torch.dtype
) -> None:
    network = Predictor(model, Inference(precision=precision)).model
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}
    kernels = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
