"""The main job over real street scenes, CamVid's 101 validation frames, in all three formats on a real S3 server."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers import new_bucket

from pipeline import masks, storage
from pipeline.batch.config import RefineConfig, RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.run import segment
from pipeline.commandline import Uri
from pipeline.masks import ERRORS_FOLDER

FRAMES = Path(__file__).parents[3] / "shared" / "data" / "camvid" / "val"

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


@pytest.mark.parametrize(("put", "backend"), [(as_images, "native"), (as_webdataset, "none"), (as_parquet, "none")])
def test_every_frame_becomes_a_mask(put: Callable[[str], None], backend: Literal["native", "none"]) -> None:
    bucket = new_bucket()
    put(f"{bucket}/in")
    config = RunConfig(
        input=Uri(f"{bucket}/in"),
        output=Uri(f"{bucket}/out"),
        refine=RefineConfig(backend=backend),
    )
    summary = segment(check(config))
    assert (summary.listed, summary.segmented, summary.failed) == (101, 101, 0)
    found = dict(masks.read(f"{bucket}/out"))
    assert {key.removesuffix(".png") for key in found} == set(frames())
    assert {mask.shape for mask in found.values()} == {(360, 480)}
    assert not list(storage.list_files(f"{bucket}/out/{ERRORS_FOLDER}"))
