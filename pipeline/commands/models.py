"""List the networks that --model takes by name: `deeplab-buckets models`, or `--json` for programs.

Of each: what it was trained on, classes, licence, scores, where its weights lie, and how large they are there.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pipeline.commands.command import Command

if TYPE_CHECKING:
    from pipeline.models.catalogue import Listed


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """List the networks that --model takes by name.

    Args:
        json: one JSON object a line.
    """

    json: bool = False


def _work(_: ModelsConfig) -> "list[Listed]":
    from pipeline.models.catalogue import catalogue

    return catalogue()


def _said(config: ModelsConfig, listed: "Sequence[Listed]") -> str:
    """Say it in one piece: a reader of the first lines alone, such as head, breaks nothing."""
    from pipeline.models.catalogue import adapters

    if config.json:
        return "\n".join(json.dumps(asdict(one)) for one in listed)
    return "\n".join([*map(_described, listed), *adapters()])


def _described(one: "Listed") -> str:
    classes = f"{len(one.classes)}: {', '.join(one.classes)}" if one.classes else "none: a start for training"
    scores = "; ".join(f"{name}: {score:g}" for name, score in one.scores.items())
    size = f"{one.bytes / 1e6:.1f} MB" if one.bytes is not None else "not there yet"
    lines = {
        "trained on": one.trained_on,
        "classes": classes,
        "licence": one.licence,
        "scores": scores or "none noted",
        "weights": f"{one.place} ({size})",
    }
    return "\n".join([f"{one.name} ({one.kind})", *(f"  {name + ':':12}{value}" for name, value in lines.items())])


command = Command(
    name="models",
    config=ModelsConfig,
    prepare=lambda config: config,
    work=_work,
    said=_said,
    uses_ray=False,
)
