"""List the networks that can be named: those shipped with the package, public weights of the zoo, and adapters."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.errors import WeightsError
from pipeline.models import zoo
from pipeline.models.adapters import ADAPTERS
from pipeline.models.built_in import BUILT_IN, built_in_names
from pipeline.models.card import ModelCard
from pipeline.models.checkpoints import native


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Describe a network that --model takes by name.

    kind: what it is good for: "built in", "zoo", or "backbone", from which only a training can start.
    trained_on: the pictures that it knows.
    scores: what was measured by its makers.
    place: the file on this machine, there or yet to be fetched.
    bytes: of the file; None where it is not there.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    trained_on: str
    licence: str
    scores: Mapping[str, float]
    place: str
    bytes: int | None


def catalogue() -> list[Listed]:
    """List all names: the built-in ones first, then the zoo's."""
    return [*_built_in(), *_zoo()]


def overview() -> str:
    """Say in a line for each network that can segment what it is for, and for each adapter what it reads."""
    lines = [(one.name, f"{len(one.classes)} classes, from {one.trained_on}") for one in catalogue() if one.classes]
    lines += [(adapter.example, f"{adapter.reads}{_needs(name)}") for name, adapter in ADAPTERS.items()]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:{width}}  {what}" for name, what in lines)


def adapters() -> list[str]:
    """Say in a line for each adapter of another framework what it reads, from where, and whether it is installed."""
    return [
        f"{name} (adapter): {adapter.reads}, as in --model {adapter.example}; weights lie {adapter.place}{_needs(name)}"
        for name, adapter in ADAPTERS.items()
    ]


def _needs(name: str) -> str:
    adapter = ADAPTERS[name]
    return "" if adapter.is_installed else f"; needs pip install 'deeplab-buckets[{adapter.extra}]'"


def _built_in() -> Iterator[Listed]:
    for name in built_in_names():
        path = BUILT_IN / f"{name}{native.SUFFIX}"
        card = ModelCard.from_dict(native.card_fields(json.loads(path.with_suffix(".json").read_bytes())))
        yield Listed(
            name=name,
            kind="built in",
            classes=card.classes,
            trained_on=card.training_split,
            licence=card.licence,
            scores=card.scores,
            place=str(path),
            bytes=path.stat().st_size,
        )


def _zoo() -> Iterator[Listed]:
    for name, entry in zoo.ZOO.items():
        try:
            path = entry.path
            place, size = str(path), path.stat().st_size if path.is_file() else None
        except WeightsError as error:  # of a package that is not installed
            place, size = str(error), None
        yield Listed(
            name=name,
            kind="zoo" if entry.classes else "backbone",
            classes=entry.classes,
            trained_on=entry.training_split,
            licence=entry.licence,
            scores=entry.scores,
            place=place,
            bytes=size,
        )
