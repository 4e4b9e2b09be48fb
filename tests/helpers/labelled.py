"""Small labelled data sets, in every layout."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline import storage
from tests.helpers.shards import tar_bytes

CLASSES = ("ground", "tree", "sky")


def pair(seed: int, height: int = 48, width: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture whose colours tell the labels of its mask, in stripes that differ from seed to seed."""
    rng = np.random.default_rng(seed)
    mask = np.repeat(rng.integers(0, len(CLASSES), (height, -(-width // 16))), 16, axis=1)[:, :width].astype(np.uint8)
    mask = np.repeat(mask[::16], 16, axis=0)[:height]
    image = np.stack([mask * 90, 200 - mask * 60, mask * 0 + seed % 50], axis=2).astype(np.uint8)
    return image, mask


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def palette_png(mask: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(mask, "P")
    image.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def put_camvid(root: str, split: str, count: int) -> None:
    for seed in range(count):
        image, mask = pair(seed)
        storage.put_whole(f"{root}/{split}/{seed:03d}.png", png(image))
        storage.put_whole(f"{root}/{split}annot/{seed:03d}.png", png(mask))


def put_voc(root: str, split: str, count: int) -> None:
    folder = "SegmentationClassAug" if split.endswith("aug") else "SegmentationClass"
    names = [f"2007_{seed:06d}" for seed in range(count)]
    storage.put_whole(f"{root}/ImageSets/Segmentation/{split}.txt", "\n".join(names).encode() + b"\n")
    for seed, name in enumerate(names):
        image, mask = pair(seed)
        storage.put_whole(f"{root}/JPEGImages/{name}.jpg", jpeg(image))
        storage.put_whole(f"{root}/{folder}/{name}.png", palette_png(mask))


def put_webdataset(root: str, split: str, count: int) -> None:
    for shard in range(2):
        members = []
        for seed in range(shard, count, 2):
            image, mask = pair(seed)
            parts = ((".jpg", jpeg(image)), (".json", b"{}"), (".mask.png", palette_png(mask)))
            members += [(f"{seed:03d}{suffix}", data) for suffix, data in parts]
        storage.put_whole(f"{root}/{split}-{shard:03d}.tar", tar_bytes(members))


def put_parquet(root: str, split: str, count: int) -> None:
    pairs = [pair(seed) for seed in range(count)]
    table = pa.table(
        {
            "image": [{"bytes": jpeg(image), "path": f"{seed:03d}.jpg"} for seed, (image, _) in enumerate(pairs)],
            "label": [{"bytes": png(mask), "path": None} for _, mask in pairs],
            "id": list(range(count)),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=3)
    storage.put_whole(f"{root}/data/{split}-00000-of-00001.parquet", buffer.getvalue())


PUT = {"camvid": put_camvid, "voc": put_voc, "webdataset": put_webdataset, "parquet": put_parquet}
