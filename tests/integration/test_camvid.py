"""The main job over real street scenes, CamVid's validation frames, in all three formats on a real S3 server."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline import masks, storage
from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.run import segment
from pipeline.masks import ERRORS_FOLDER
from pipeline.refine import RefineConfig
from pipeline.storage import Uri
from tests.helpers.servers import new_bucket

FRAMES = Path(__file__).parents[3] / "shared" / "data" / "camvid" / "val"
TRAINED_APART = str(Path(__file__).parents[2] / "recipes" / "camvid-light.safetensors")
"""As `street`, on other frames than these."""

CLASSES = 11

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.skipif(not FRAMES.is_dir(), reason=f"no CamVid frames at {FRAMES}"),
]


def frames() -> dict[str, bytes]:
    """All 101, encoded."""
    return {path.stem: path.read_bytes() for path in sorted(FRAMES.glob("*.png"))}


def quarters() -> dict[str, bytes]:
    """Every frame, a quarter as wide and high: what is read is tried, not the network once more."""
    reduced = {}
    for name, data in frames().items():
        buffer = io.BytesIO()
        Image.open(io.BytesIO(data)).reduce(4).save(buffer, "PNG")
        reduced[name] = buffer.getvalue()
    return reduced


def as_images(uri: str, frames: dict[str, bytes]) -> None:
    for name, data in frames.items():
        storage.put_whole(f"{uri}/{name}.png", data)


def as_webdataset(uri: str, frames: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in frames.items():
            member = tarfile.TarInfo(f"{name}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    storage.put_whole(f"{uri}/val.tar", buffer.getvalue())


def as_parquet(uri: str, frames: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    table = pa.table({"key": list(frames), "image": [{"bytes": data, "path": None} for data in frames.values()]})
    pq.write_table(table, buffer, row_group_size=40)
    storage.put_whole(f"{uri}/val.parquet", buffer.getvalue())


def share_right(masks_by_name: dict[str, NDArray[np.uint8]]) -> float:
    """Of the pixels that have a label."""
    right = labelled = 0
    for name, mask in masks_by_name.items():
        truth = np.asarray(Image.open(FRAMES.parent / "valannot" / f"{name}.png"))
        right += int((mask == truth)[truth < CLASSES].sum())
        labelled += int((truth < CLASSES).sum())
    return right / labelled


def segmented(
    put: Callable[[str, dict[str, bytes]], None], pictures: dict[str, bytes], backend: Literal["native", "none"]
) -> dict[str, NDArray[np.uint8]]:
    """The masks of a run over the frames: all of them, by name."""
    bucket = new_bucket()
    put(f"{bucket}/in", pictures)
    config = RunConfig(
        input=Uri(f"{bucket}/in"),
        output=Uri(f"{bucket}/out"),
        model=TRAINED_APART,
        refine=RefineConfig(backend=backend),
    )
    summary = segment(check(config))
    assert (summary.listed, summary.segmented, summary.failed) == (len(pictures), len(pictures), 0)
    assert not list(storage.list_files(f"{bucket}/out/{ERRORS_FOLDER}"))
    found = {key.rpartition("/")[2].removesuffix(".png"): mask for key, mask in masks.read(f"{bucket}/out")}
    assert found.keys() == pictures.keys()
    return found


def test_frames_become_masks_as_good_as_in_training() -> None:
    fifth = dict(list(frames().items())[::5])
    found = segmented(as_images, fifth, "native")
    assert {mask.shape for mask in found.values()} == {(360, 480)}
    assert share_right(found) > 0.950  # 0.951


@pytest.mark.parametrize("put", [as_webdataset, as_parquet])
def test_every_frame_of_a_shard_becomes_a_mask(put: Callable[[str, dict[str, bytes]], None]) -> None:
    found = segmented(put, quarters(), "none")
    assert {mask.shape for mask in found.values()} == {(90, 120)}
