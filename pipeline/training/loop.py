"""Run the training step and loop of DeepLab v2 in plain PyTorch (sections 3.1 and 4.1 of the paper)."""

import contextlib
import dataclasses
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import ConfigError, RunError
from pipeline.models.deeplab import SegmentationModel
from pipeline.models.stored_names import network_state, stored_state
from pipeline.training.average import WeightAverage
from pipeline.training.loss import Losses
from pipeline.training.parameters import batch_norms, parameter_groups
from pipeline.training.recipe import Recipe

_AVERAGE = "average"  # of the weights, in a snapshot

Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]
"""From a first step to the batches of that step and all later ones: pictures (N, 3, H, W), labels (N, H, W)."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Report one step: how many that makes, its mean loss, and the learning rate of the backbone that it used."""

    step: int
    loss: float
    learning_rate: float


def train(
    model: SegmentationModel,
    batches: Batches,
    recipe: Recipe,
    *,
    class_weights: Tensor | None = None,
    checkpoint: bytes | None = None,
    on_checkpoint: Callable[[bytes], None] | None = None,
    on_step: Callable[[StepResult], None] | None = None,
    must_save: Callable[[int], bool] | None = None,
) -> None:
    """Train `model` in place, on the device it is on, and leave it in evaluation mode.

    Where the recipe averages the weights, the model has the averaged ones in `on_checkpoint` and at the end.

    Where torch.distributed is initialised, every process of the group calls this with its share of each batch, and all
    take the step that one process would take with the whole batch; but batch normalisation that is trained takes the
    statistics of each share, and those that stay are the first process's.

    Args:
        model: the network; its backbone and head get learning rates of their own.
        batches: asked once, for the step to begin with.
        recipe: the run's numbers.
        class_weights: what a point of each class counts in the losses, (C,) float32; 1 without.
        checkpoint: what `on_checkpoint` got from an earlier run of the same recipe, to go on from there.
        on_checkpoint: gets the whole state every `recipe.checkpoint_every` steps and at the end.
        on_step: gets the result of every step.
        must_save: is asked after steps between, which it is told, whether `on_checkpoint` is to get the state now; all
            processes must agree.

    Raises:
        ConfigError: the checkpoint is damaged, or of another recipe or network.
        RunError: the loss is no longer a number; of several processes every one raises it, at the same step.
    """
    optimizer = torch.optim.SGD(parameter_groups(model, recipe), lr=recipe.base_lr, momentum=recipe.momentum)
    average = WeightAverage(model, recipe.ema_decay)
    start = restore(checkpoint, model, optimizer, average, recipe) if checkpoint is not None else 0
    set_train_mode(model, recipe)
    losses = parallel(Losses(model, recipe, class_weights))
    for step, (images, labels) in enumerate(batches(start), start):
        loss = train_step(losses, optimizer, images, labels, recipe, step)
        if not math.isfinite(loss):
            raise RunError(
                f"the loss of step {step + 1} is {loss}: the training has diverged. Start anew with a recipe.base_lr "
                f"below {recipe.base_lr:g}, or with a recipe.clip_norm, such as 10"
            )
        average.update(step)
        if on_step:
            on_step(StepResult(step=step + 1, loss=loss, learning_rate=recipe.learning_rate(step)))
        is_due = (step + 1) % recipe.checkpoint_every == 0 or step + 1 == recipe.iterations
        if on_checkpoint and (is_due or (must_save and must_save(step + 1))):
            state = snapshot(model, optimizer, average, recipe, step + 1)
            with average.in_place():
                share_statistics(model)
                on_checkpoint(state)
            set_train_mode(model, recipe)  # it may have been evaluated
    average.put()
    share_statistics(model)
    model.eval()


def train_step(
    losses: Losses | DistributedDataParallel,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    step: int,
) -> float:
    """Take a step of SGD; returns the loss before it: the weighted mean of what is labelled, added up over the losses.

    Args:
        losses: the network with its losses, as `parallel` gives it.
        images: (N, 3, H, W), preprocessed: this process's share of the batch.
        labels: (N, H, W) uint8.
    """
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    # What dropout drops depends on seed, step and process alone, so that a resumed run repeats an uninterrupted one.
    torch.manual_seed((recipe.seed * recipe.iterations + step) * world + rank)
    for group in optimizer.param_groups:
        group["lr"] = group["multiplier"] * recipe.learning_rate(step)
    device = next(losses.parameters()).device
    images, labels = images.to(device), labels.to(device)
    plain: Any = losses.module if isinstance(losses, DistributedDataParallel) else losses
    weights = total(plain.labelled(labels))  # (K,)
    weights = torch.where(weights > 0, weights, 1)  # where nothing is labelled, the loss is 0
    optimizer.zero_grad()
    seen = torch.zeros((), device=device)
    parts = list(zip(images.chunk(recipe.accumulate), labels.chunk(recipe.accumulate), strict=True))
    for number, (some, theirs) in enumerate(parts, 1):
        more = number < len(parts)
        with losses.no_sync() if more and isinstance(losses, DistributedDataParallel) else contextlib.nullcontext():
            loss = (losses(some, theirs) / weights).sum()
            (loss * world).backward()  # processes take the mean of their gradients, and the step takes their sum
        seen += loss.detach()
    if recipe.clip_norm:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
    optimizer.step()
    return float(total(seen))


def parallel(losses: Losses) -> Losses | DistributedDataParallel:
    """Share the module's gradients with the other processes, where torch.distributed is initialised."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return losses
    return DistributedDataParallel(losses)


def share_statistics(model: SegmentationModel) -> None:
    """Give every process the first one's running statistics: each has gone on with its own share of the last batch."""
    if torch.distributed.is_initialized():
        for statistic in model.buffers():
            torch.distributed.broadcast(statistic, 0)


def total(values: Tensor) -> Tensor:
    """Add up element by element over all processes, in place."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def set_train_mode(model: SegmentationModel, recipe: Recipe) -> None:
    """Set training mode, but for batch normalisation where the recipe freezes it."""
    model.train()
    for norm in batch_norms(model):
        norm.train(not recipe.freeze_bn)
        norm.requires_grad_(not recipe.freeze_bn)


def snapshot(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage, recipe: Recipe, step: int
) -> bytes:
    """Serialise the whole state of a run after `step` steps."""
    buffer = io.BytesIO()
    weights = {"model": stored_state(model.state_dict()), _AVERAGE: stored_state(average.state)}
    rest = {"optimizer": optimizer.state_dict(), "step": step, "recipe": dataclasses.asdict(recipe)}
    torch.save(weights | rest, buffer)
    return buffer.getvalue()


def restore(
    checkpoint: bytes, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage, recipe: Recipe
) -> int:
    """Put a snapshot back and return the steps done.

    Raises:
        ConfigError: it is damaged, or of another recipe or network.
    """
    state = _read(checkpoint)
    then = dataclasses.asdict(Recipe()) | state["recipe"]  # what a field did not yet say was its default
    now = dataclasses.asdict(recipe)
    changed = [f"{name} {old} -> {now.get(name)}" for name, old in then.items() if now.get(name) != old]
    if changed:
        raise ConfigError(f"the checkpoint is of another recipe ({', '.join(changed)}); start anew at another output")
    try:
        model.load_state_dict(network_state(state["model"]))
    except RuntimeError as error:
        raise ConfigError("the checkpoint is of another network; start anew at another output") from error
    optimizer.load_state_dict(state["optimizer"])
    average.load(network_state(state.get(_AVERAGE, {})))
    return int(state["step"])


def put_result(checkpoint: bytes, model: nn.Module) -> None:
    """Give the network the weights that a snapshot was scored with: the averaged ones, where the recipe has them."""
    state = _read(checkpoint)
    model.load_state_dict(network_state(state.get(_AVERAGE) or state["model"]))


def _read(checkpoint: bytes) -> dict[str, Any]:
    """Read what `snapshot` wrote. Raises ConfigError."""
    try:
        state = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make torch raise anything
        raise ConfigError(
            f"the checkpoint is damaged ({type(error).__name__}); remove it, or start anew at another output"
        ) from error
    if not isinstance(state, dict) or not {"model", "optimizer", "step", "recipe"} <= state.keys():
        raise ConfigError(
            "the checkpoint is not what a training has written; remove it, or start anew at another output"
        )
    return state
