"""Whether the labels of a split make sense as a whole: the classes they hold, and the way up that masks are drawn."""

from collections.abc import Sequence
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.labels import IGNORE, Labels

DrawnOn = Literal["stored", "upright", "either"]
"""Which side up a mask is, where EXIF turns its picture: as the picture is stored, as it is seen, or it cannot be told.

A quarter turn swaps the sides, so that the mask's own tell; a half turn, a mirror or a square picture leaves them.
"""

_SHOWN = 10


def check_classes(pixels: Sequence[int], labels: Labels, pictures: str) -> list[str]:
    """Check the classes that the masks of a split hold.

    Args:
        pixels: of each class, in all masks.
        labels: what the masks hold.
        pictures: what the split is called in messages.

    Returns:
        lines for a person to read: classes without a pixel, and a warning where one class has all of them.

    Raises:
        ConfigError: no pixel is counted.
    """
    absent = [name for name, count in zip(labels.classes, pixels, strict=True) if not count]
    if len(absent) == len(labels.classes):
        raise ConfigError(
            f"the masks of {pictures} hold no pixel that is counted: all are {_void(labels)}, which marks pixels "
            "without a label; give masks whose values are class ids"
        )
    if len(absent) == len(labels.classes) - 1:
        [only] = set(labels.classes) - set(absent)
        return [
            f"warning: every counted pixel of {pictures} is of one class, {only!r}, so that scores are perfect and say "
            f"nothing; the value {_void(labels)} is never counted: where a class is stored as that, store its class id"
        ]
    return [f"no pixel of {pictures} is of {_listed(absent)}"] if absent else []


def check_drawn_on(drawn_on: Sequence[tuple[str, DrawnOn]], pictures: str) -> list[str]:
    """Check that the masks of pictures that EXIF turns are drawn one way up, or say how they are taken.

    Args:
        drawn_on: the key and the way up of each such picture.
        pictures: what the split is called in messages.

    Returns:
        lines for a person to read, where sizes do not tell the way up of any mask.

    Raises:
        ConfigError: some masks are drawn on pictures as stored, and of others it cannot be told.
    """
    ways = {way for _, way in drawn_on}
    unclear = [key for key, way in drawn_on if way == "either"]
    if not unclear or ("upright" in ways and "stored" not in ways):
        return []
    which = f"the masks of {len(unclear)} pictures of {pictures} that EXIF turns ({_listed(unclear)})"
    remedy = "store those pictures upright, without the tag, and their masks alike"
    if "stored" in ways:
        raise ConfigError(
            f"{which} may be drawn on the picture as it is stored, as other masks here are, or on the upright one: "
            f"their sizes do not tell. To use them, {remedy}"
        )
    return [f"warning: {which} are taken as drawn on the upright picture; where that is wrong, {remedy}"]


def _void(labels: Labels) -> str:
    return f"{IGNORE}" if labels.void == IGNORE else f"{labels.void} or {IGNORE}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
