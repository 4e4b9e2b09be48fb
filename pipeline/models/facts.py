"""What a job needs to know of a network before there is a picture to segment; it needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.models.network import Network


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Say what a network is, and what its outputs are matched by.

    name, classes, palette, crf: as on its card.
    digest, network, adapter: as `Network` has them.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    crf: Mapping[str, float | int | str | tuple[float, ...]]
    digest: str
    network: str
    adapter: str

    @classmethod
    def of(cls, model: "Network") -> "ModelFacts":
        """Read them off a network."""
        return cls(
            name=model.card.name,
            classes=model.classes,
            palette=model.card.palette,
            crf=model.card.crf,
            digest=model.digest,
            network=model.network,
            adapter=model.adapter,
        )
