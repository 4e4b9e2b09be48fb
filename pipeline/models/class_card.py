"""Read the card beside weights of another project, NAME.json beside NAME.pth: what their layout does not say."""

import json
import os.path
from dataclasses import dataclass

from pipeline import storage
from pipeline.errors import ConfigError, MissingError, WeightsError
from pipeline.models.plain import build

EXAMPLE = '{"classes": ["background", "road"]}'


@dataclass(frozen=True, kw_only=True)
class ClassCard:
    """Hold what the card says.

    classes: names by class index.
    licence, training_split: of the weights.
    """

    classes: tuple[str, ...]
    licence: str = "unknown"
    training_split: str = "none"


def card_beside(uri: str) -> ClassCard | None:
    """Read the card of a weights file; None where nothing beside it lists classes.

    Raises:
        WeightsError: it says more than a card can, or what cannot be.
        StorageError: the storage does not give it, or does not say whether it is there.
    """
    place = os.path.splitext(uri)[0] + ".json"
    try:
        plain = json.loads(storage.read_bytes(place))
    except (MissingError, ValueError, RecursionError):
        return None
    if not isinstance(plain, dict) or not isinstance(plain.get("classes"), list):
        return None
    try:
        return build(ClassCard, plain, "card")
    except ConfigError as error:
        raise WeightsError(
            f"the card {storage.redact(place)} cannot be used: {error}; for example {EXAMPLE}"
        ) from error
