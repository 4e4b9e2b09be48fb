"""Writing scenes as WebDataset shards of pictures; their truth lies apart, so that no mask is taken for a picture."""

import io
import re
import tarfile
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline import masks, storage
from pipeline.errors import ConfigError
from pipeline.scenes.scene import CLASSES, scene

IMAGES, TRUTH = "images", "truth"
JPEG_QUALITY = 90
TRUTH_SCHEMA = pa.schema([masks.MASKS_SCHEMA.field("key"), masks.MASKS_SCHEMA.field("mask")])
Example = tuple[str, NDArray[np.uint8], NDArray[np.uint8]]


def write_shards(uri: str, count: int, seed: int = 0, per_shard: int = 100) -> None:
    """Write the scenes of seeds `seed` .. `seed + count - 1`.

    The pictures go to URI/images/scenes-00000.tar and on, members NAME.jpg; the truth to URI/truth/scenes-00000.parquet
    and on, in the columns `key` and `mask` of the masks' schema: `pipeline.masks.read(URI/truth)` streams it, under the
    keys that a run over the pictures gives its masks, as in scenes-00000.tar/NAME. Shards of these names that a call
    for more scenes has left there are removed.

    Raises:
        ConfigError: `count`, `seed` or `per_shard` out of range.
        StorageError: the place cannot be written.
    """
    if count < 1 or per_shard < 1 or seed < 0:
        raise ConfigError(
            f"cannot write {count} scenes, {per_shard} a shard, from seed {seed}: give 1, 1 and 0 at least"
        )
    for shard, first in enumerate(range(seed, seed + count, per_shard)):
        seeds = range(first, min(first + per_shard, seed + count))
        examples = [(f"scene-{number:08d}", *scene(number)) for number in seeds]
        name = f"scenes-{shard:05d}"
        storage.put_whole(storage.join(uri, IMAGES, f"{name}.tar"), _tar(examples))
        storage.put_whole(storage.join(uri, TRUTH, f"{name}.parquet"), _table(examples, f"{name}.tar", seed))
    for folder, suffix in ((IMAGES, "tar"), (TRUTH, "parquet")):
        for entry in storage.list_folder(storage.join(uri, folder)):
            named = re.fullmatch(rf"scenes-(\d{{5,}})\.{suffix}", entry.key)
            if named and int(named[1]) * per_shard >= count:
                storage.delete(entry.uri)


def _tar(examples: list[Example]) -> bytes:
    """Make a tar of JPEG files, the same bytes for the same scenes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, image, _ in examples:
            jpeg = io.BytesIO()
            Image.fromarray(image).save(jpeg, "JPEG", quality=JPEG_QUALITY)
            member = tarfile.TarInfo(f"{name}.jpg")
            member.size = jpeg.tell()
            tar.addfile(member, io.BytesIO(jpeg.getvalue()))
    return buffer.getvalue()


def _table(examples: list[Example], shard: str, seed: int) -> bytes:
    """Make a Parquet file of the true masks of a shard's scenes."""
    palette = masks.pascal_palette(len(CLASSES))
    info = masks.DatasetInfo(
        classes=CLASSES,
        palette=tuple((int(red), int(green), int(blue)) for red, green, blue in palette),
        model="truth",
        model_digest="",
        crf=None,
        generation=f"truth-{seed}",
        run_id=f"scenes-{seed}",
        created=datetime.now(UTC).isoformat(),
    )
    rows = [
        (f"{shard}/{name}", {"bytes": masks.encode(truth, palette), "path": f"{name}.png"})
        for name, _, truth in examples
    ]
    schema = TRUTH_SCHEMA.with_metadata(info.to_metadata(TRUTH_SCHEMA))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema), buffer)
    return buffer.getvalue()
