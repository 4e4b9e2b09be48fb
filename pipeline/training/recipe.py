"""Hold the numbers of a training run."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.models.scales import SINGLE_SCALE, check_scales, valid_step
from pipeline.numbers import check_numbers


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Say how a network is trained.

    The defaults are those of the paper and its solver for ResNet-101 on VOC (section 4.1), at one scale: the paper's
    losses are at three.

    Attributes:
        iterations: optimiser steps.
        batch: pictures a step, over all workers.
        accumulate: parts in which a worker goes through its pictures of a step; the gradient is that of the whole, but
            for batch normalisation that is trained, which takes the statistics of each part.
        crop: side of the square crops, in pixels: valid at every scale for the network, 8m + 1 at output stride 8.
        scales: image scales that have a loss each, and one more on their maximum where there are several.
        class_balance: a class counts in the losses in proportion to (its share of the pixels)^-class_balance; 0 counts
            every pixel the same.
        base_lr: learning rate at step 0 of all weights but the classifier's; biases of convolutions have twice it.
        power: the rate falls as (1 - step / iterations)^power.
        momentum: of SGD.
        weight_decay: L2 penalty on every weight; biases and batch normalisation have none.
        head_weight_lr: learning rate of the classifier's weights, in units of base_lr. The classifier are the layers
            that give the logits: a ResNet's ASPP, VGG-16's fc8.
        head_bias_lr: learning rate of the classifier's biases, likewise.
        clip_norm: longest gradient, over all parameters together; a longer one is shortened. 0 leaves it as it is.
        ema_decay: the share that an exponential moving average of the weights keeps at each step; its weights are
            validated and exported. 0 averages nothing.
        scale_min: smallest random scale of a picture.
        scale_max: largest random scale of a picture.
        mirror: probability that a picture is mirrored.
        colour_jitter: largest change of a picture's brightness, contrast and saturation, as a share of each.
        cut_mix: probability that a window of a crop shows what another picture's crop has there.
        freeze_bn: keep batch normalisation's statistics, scale and shift as they are.
        precision: of the forward and backward pass; weights and their updates are float32. auto is bfloat16 where the
            device multiplies it natively, float32 elsewhere.
        seed: decides the order of pictures, their augmentation and dropout; below 2^32.
        checkpoint_every: steps between checkpoints.
    """

    iterations: int = 20_000
    batch: int = 10
    accumulate: int = 1
    crop: int = 321
    scales: tuple[float, ...] = SINGLE_SCALE
    class_balance: float = 0.0
    base_lr: float = 2.5e-4
    power: float = 0.9
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_weight_lr: float = 10.0
    head_bias_lr: float = 20.0
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    scale_min: float = 0.5
    scale_max: float = 1.5
    mirror: float = 0.5
    colour_jitter: float = 0.0
    cut_mix: float = 0.0
    freeze_bn: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    seed: int = 0
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        check_numbers(self, "recipe.")
        for name in ("iterations", "batch", "accumulate", "checkpoint_every", "base_lr"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it must be above 0")
        for name in (
            "class_balance",
            "power",
            "momentum",
            "weight_decay",
            "head_weight_lr",
            "head_bias_lr",
            "clip_norm",
            "seed",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it must not be negative")
        if self.seed >= 2**32:  # PyTorch takes 64 bits, and each step of each worker has a seed of its own
            raise ConfigError(f"recipe.seed is {self.seed}; it must be below 2^32")
        check_scales(self.scales)
        if not 0 < self.scale_min <= self.scale_max:
            raise ConfigError(f"recipe.scale_min..scale_max is {self.scale_min}..{self.scale_max}; give 0 < min <= max")
        for name in ("mirror", "cut_mix"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it is a probability, from 0 to 1")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"recipe.ema_decay is {self.ema_decay}; it must be from 0 to below 1")
        if not 0 <= self.colour_jitter < 1:
            raise ConfigError(f"recipe.colour_jitter is {self.colour_jitter}; it must be from 0 to below 1")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"recipe.precision is {self.precision!r}; it must be 'auto', 'float32' or 'bfloat16'")

    def check_crop(self, stride: int) -> None:
        """Raise ConfigError unless a network of this output stride, in pixels, can take the crop at every scale."""
        step = valid_step(stride, self.scales)
        if self.crop <= step or (self.crop - 1) % step:
            raise ConfigError(f"recipe.crop is {self.crop}; it must be {step}m + 1, such as 257 or 321")

    def learning_rate(self, step: int) -> float:
        """Compute the poly schedule: base_lr * (1 - step / iterations)^power; 0 at the end."""
        return float(self.base_lr * (1.0 - step / self.iterations) ** self.power)
