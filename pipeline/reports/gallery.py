"""The gallery of a page: chosen images as small pictures with two masks each, as the page's script takes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import masks
from pipeline.data.pictures import Picture, Pictures
from pipeline.errors import PipelineError, StorageError
from pipeline.masks import DatasetInfo, Place
from pipeline.masks.joining import decoded
from pipeline.reports.page import colour
from pipeline.reports.shortlist import Chosen
from pipeline.reports.thumbnails import Palette, Thumbnail, picture_of, thumbnail

_PICTURE_BYTES = 18_500_000
"""Of a page, for all its pictures; it has at most 20 MB."""


def gallery(
    images: Sequence[Chosen],
    pictures: Pictures,
    info: DatasetInfo,
    earlier: Mapping[str, Place],
    earlier_palette: Palette,
    layers: Mapping[str, str],
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    """Make what the script of a page takes.

    Args:
        images: that are shown.
        pictures: finds their pictures.
        info: the note of their masks.
        earlier: other masks of theirs, by key: of the network alone, or of another output.
        earlier_palette: (R, G, B) of each class of those.
        layers: what `image`, `after` (their masks) and, where there are some, `before` (those) are called.
        reasons: what the reasons of an image are called.

    Raises:
        StorageError: a mask cannot be read. A picture that cannot is left out.
    """
    by_picture = {Picture(key=image.key, source=image.source, digest=image.digest): image for image in images}
    most_bytes = _PICTURE_BYTES // max(len(images), 1)
    made: dict[str, Thumbnail] = {}
    for wanted, encoded in pictures.fetch(list(by_picture)):
        image = by_picture[wanted]
        after = _mask(image.key, image.place)
        before = _mask(image.key, earlier[image.key]) if image.key in earlier else None
        try:
            picture: NDArray[np.uint8] | PipelineError = picture_of(encoded, image.size)
        except PipelineError as error:
            picture = error
        if before is not None and before.shape == after.shape and image.disagreement is None:
            image.disagreement = float((before != after).mean())
        made[image.key] = thumbnail(picture, (after, info.palette), before, earlier_palette, most_bytes)
    classes = [{"name": name, "colour": colour(rgb)} for name, rgb in zip(info.classes, info.palette, strict=True)]
    shown = [_shown(image, made[image.key]) for image in images]
    return {"images": shown, "classes": classes, "layers": dict(layers), "reasons": dict(reasons)}


def _mask(key: str, place: Place) -> NDArray[np.uint8]:
    for _, png in masks.read_pngs([place]):
        return decoded(key, png)
    raise StorageError(f"the mask of {key!r} is gone")


def _shown(image: Chosen, made: Thumbnail) -> dict[str, Any]:
    by_share = sorted(image.classes.items(), key=lambda item: -item[1][0])
    return {
        "key": image.key,
        "width": image.size[1],
        "height": image.size[0],
        "confidence": image.confidence,
        "disagreement": image.disagreement,
        "reasons": image.reasons,
        "classes": [[label, share, confidence] for label, (share, confidence) in by_share],
        "image": made.image,
        "before": made.before,
        "after": made.after,
        "problem": made.problem,
    }
