"""The main job over real street scenes, CamVid's 101 validation frames, in all three formats on a real S3 server."""

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
from pipeline.models import Inference
from pipeline.refine import RefineConfig
from pipeline.storage import Uri
from tests.helpers.servers import new_bucket

FRAMES = Path(__file__).parents[3] / "shared" / "data" / "camvid" / "val"
CLASSES = 11

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.skipif(not FRAMES.is_dir(), reason=f"no CamVid frames at {FRAMES}"),
]


def frames() -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(FRAMES.glob("*.png"))}


def as_images(uri: str) -> None:
    for name, data in frames().items():
        storage.put_whole(f"{uri}/{name}.png", data)


def as_webdataset(uri: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in frames().items():
            member = tarfile.TarInfo(f"{name}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    storage.put_whole(f"{uri}/val.tar", buffer.getvalue())


def as_parquet(uri: str) -> None:
    known = frames()
    buffer = io.BytesIO()
    table = pa.table({"key": list(known), "image": [{"bytes": data, "path": None} for data in known.values()]})
    pq.write_table(table, buffer, row_group_size=40)
    storage.put_whole(f"{uri}/val.parquet", buffer.getvalue())


def share_right(found: dict[str, NDArray[np.uint8]]) -> float:
    """Of the pixels that have a label."""
    right = labelled = 0
    for key, mask in found.items():
        name = key.removesuffix(".png")
        truth = np.asarray(Image.open(FRAMES.parent / "valannot" / f"{name}.png"))
        right += int((mask == truth)[truth < CLASSES].sum())
        labelled += int((truth < CLASSES).sum())
    return right / labelled


@pytest.mark.parametrize(("put", "backend"), [(as_images, "native"), (as_webdataset, "none"), (as_parquet, "none")])
def test_every_frame_becomes_a_mask(put: Callable[[str], None], backend: Literal["native", "none"]) -> None:
    bucket = new_bucket()
    put(f"{bucket}/in")
    config = RunConfig(
        input=Uri(f"{bucket}/in"),
        output=Uri(f"{bucket}/out"),
        model="street",
        inference=Inference(scales=(1.0,)),  # the model's own two take three times as long
        refine=RefineConfig(backend=backend),
    )
    summary = segment(check(config))
    assert (summary.listed, summary.segmented, summary.failed) == (101, 101, 0)
    found = dict(masks.read(f"{bucket}/out"))
    assert {key.removesuffix(".png") for key in found} == set(frames())
    assert {mask.shape for mask in found.values()} == {(360, 480)}
    assert share_right(found) > 0.93  # as trained: 0.940, and 0.944 after the CRF
    assert not list(storage.list_files(f"{bucket}/out/{ERRORS_FOLDER}"))
