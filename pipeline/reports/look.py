"""One mask of an output with its picture, to look at in a notebook."""

import numpy as np
from numpy.typing import NDArray

from pipeline import masks, storage
from pipeline.data.pictures import Picture, pictures_of
from pipeline.errors import PipelineError, StorageError
from pipeline.masks import MaskRows, Overlay
from pipeline.masks.joining import decoded
from pipeline.reports.thumbnails import picture_of


def look(output: str, key: str, generation: str | None = None, input: str | None = None) -> Overlay:
    """Give the newest mask of an image, with the picture where that is still there; a notebook shows it.

    Args:
        output: of a run.
        key: of the image.
        generation: of the masks; by default the newest.
        input: where the pictures are now; by default where the run found them.

    Raises:
        ConfigError: there is no such generation.
        StorageError: there is no such mask, or it cannot be read.
    """
    output = storage.normalize(output)
    files = masks.generation_files(output, generation)
    for rows in masks.newest_rows(files):
        if isinstance(rows, MaskRows) and key in rows.keys:
            break
    else:
        raise StorageError(f"{storage.redact(output)} has no mask of {key!r}; a key is the path below the input")
    index, info = rows.keys.index(key), files[0].info
    [(_, png)] = masks.read_pngs([rows.place(index)])
    image: NDArray[np.uint8] | None = None
    pictures = pictures_of(output, info, storage.normalize(input) if input else "")
    wanted = Picture(key=key, source=rows.sources[index], digest=rows.digests[index])
    for _, encoded in pictures.fetch([wanted]):
        try:
            image = picture_of(encoded, (int(rows.sizes[index][0]), int(rows.sizes[index][1])))
        except PipelineError:
            image = None  # gone, or another one by now
    return Overlay(mask=decoded(key, png), classes=info.classes, palette=info.palette, image=image, title=key)
