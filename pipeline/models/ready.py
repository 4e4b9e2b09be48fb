"""Make a network ready to predict: what only training needs is folded away, and the weights suit the device."""

import copy
from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.models.compiled import Compiled
from pipeline.models.layers import ConvBatchNorm
from pipeline.models.network import Network


def ready(model: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """Copy a model to a device, in evaluation mode, folded and channels-last; on a GPU its network gets compiled.

    The model itself stays as it is: its digest names the outputs, and a copy's would be another.

    Args:
        dtype: of the weights, and so of the batches that the copy takes and the logits that it gives.
    """
    network = folded(model).to(device, dtype)
    # torch's own stub lacks this overload
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cuda" and network.compiles:
        network.grid = Compiled(network.grid)  # type: ignore[method-assign]
    return network


def folded(model: Network) -> Network:
    """Copy a model, in evaluation mode, with each batch normalisation in the weights of the convolution before it.

    In exact arithmetic both compute the same logits.
    """
    network = copy.deepcopy(model).eval().requires_grad_(False)
    for layer in list(network.modules()):
        if isinstance(layer, ConvBatchNorm):
            layer.fold()
        else:
            for before, after in _pairs(layer, network):
                _fold(layer, before, after)
    return network


def _pairs(layer: nn.Module, network: Network) -> Iterable[tuple[str, str]]:
    """Name the children of a framework's layer that may be a convolution and the normalisation right behind it."""
    if isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward:
        return pairwise(name for name, _ in layer.named_children())
    return network.normalised.get(type(layer).__name__, ())


def _fold(layer: nn.Module, before: str, after: str) -> None:
    """Fold the child `after` into `before`, where they are what they may be."""
    convolution, normalisation = getattr(layer, before, None), getattr(layer, after, None)
    if type(convolution) is nn.Conv2d and type(normalisation) is nn.BatchNorm2d and normalisation.track_running_stats:
        setattr(layer, before, fuse_conv_bn_eval(convolution, normalisation))
        setattr(layer, after, nn.Identity())


def gains_from_bfloat16(device: torch.device) -> bool:
    """Tell whether this device multiplies bfloat16 natively: GPUs since Ampere, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
