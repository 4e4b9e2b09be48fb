"""Damaged and hostile files: whatever the bytes, a reader gives something sound, or an error of its own.

`make test` tries a few hundred inputs of each kind, `make fuzz` a hundred thousand in all.
"""

import io
import tarfile
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import images, storage
from pipeline.data.formats.webdataset import WebDataset
from pipeline.data.index import index_shard
from pipeline.errors import ImageError, WeightsError
from pipeline.models.checkpoints import caffe
from tests.helpers.caffe_writer import MODERN, V1, V1_UNPACKED, field
from tests.helpers.fuzzing import tried
from tests.helpers.shards import tar_bytes

MAX_PIXELS = 10_000
MAX_CHANGES = 8


def pictures() -> list[bytes]:
    """A small picture in each format, some with what a camera or an editor adds."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    kinds: list[tuple[str, Image.Image, dict[str, object]]] = [
        ("JPEG", picture, {"exif": exif}),
        ("JPEG", picture.convert("CMYK"), {"progressive": True}),
        ("MPO", picture, {"save_all": True, "append_images": [picture]}),
        ("PNG", picture, {"exif": exif}),
        ("PNG", picture.convert("P"), {"transparency": 3}),
        ("PNG", Image.fromarray(noise[..., 0].astype(np.uint16) * 257), {}),
        ("WEBP", picture, {"save_all": True, "append_images": [picture]}),
        ("BMP", picture, {}),
        ("GIF", picture, {"save_all": True, "append_images": [picture]}),
        ("TIFF", picture, {"exif": exif, "compression": "tiff_lzw"}),
        ("TIFF", picture, {}),
    ]
    encoded = []
    for kind, image, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        encoded.append(buffer.getvalue())
    return encoded


def tars() -> list[bytes]:
    """Archives in each dialect, with long names, links and a device."""
    members = {"a.jpg": b"one" * 300, "b/c.png": b"two", "n" * 180 + ".jpg": b"three"}
    odd = io.BytesIO()
    with tarfile.open(fileobj=odd, mode="w") as archive:
        for name, kind in (("link.jpg", tarfile.SYMTYPE), ("hard.jpg", tarfile.LNKTYPE), ("dev.jpg", tarfile.BLKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../../etc/passwd"
            archive.addfile(member)
    short = {"a.jpg": b"one", "b.jpg": b"two"}
    return [
        tar_bytes(members),
        tar_bytes(members, format=tarfile.GNU_FORMAT),
        tar_bytes(short, format=tarfile.USTAR_FORMAT),
        odd.getvalue(),
    ]


def caffemodels() -> list[bytes]:
    """Networks of a layer or two, in each dialect."""
    weight, vector = np.ones((2, 3, 1, 1), np.float32), np.ones(2, np.float32)
    return [
        field(1, b"net") + dialect.encode("conv1", [weight], dilation=2) + dialect.encode("scale_conv1", [vector] * 2)
        for dialect in (MODERN, V1, V1_UNPACKED)
    ]


@st.composite
def damaged(draw: st.DrawFn, files: Sequence[bytes]) -> bytes:
    """One of `files` with bytes changed, often near its start, a part repeated or taken out, and perhaps cut short."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, MAX_CHANGES))):
        place = draw(st.integers(0, len(data) - 1) | st.integers(0, min(len(data) - 1, 600)))
        data[place] = draw(st.integers(0, 255) | st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)))
    if draw(st.booleans()):
        start, length = draw(st.integers(0, len(data))), draw(st.integers(0, 600))
        data[start : start + length] = data[start : start + length] * draw(st.sampled_from((0, 2, 9)))
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
    return bytes(data)


def picture_or_error(data: bytes) -> None:
    try:
        images.header_pixels(data)
        pixels = images.decode(data, MAX_PIXELS)
    except ImageError:
        return
    height, width, channels = pixels.shape
    assert channels == 3
    assert 0 < height * width <= MAX_PIXELS


def rows_or_error(data: bytes) -> None:
    """Each member lies in the file, what is none fails, and damage is one failed row."""
    storage.put_whole("memory://fuzz/a.tar", data)
    [entry] = storage.list_files("memory://fuzz/a.tar")
    rows = [row for table in index_shard(entry, WebDataset()) for row in table.to_pylist()]
    assert {row["error"] for row in rows} <= {None, "ShardError"}
    assert sum(row["offset"] is None for row in rows) <= 1
    for row in rows:
        if row["offset"] is not None:
            assert 0 <= row["offset"] <= row["offset"] + row["length"] <= len(data)
            assert row["key"].encode()


def network_or_error(data: bytes) -> None:
    try:
        caffe.convert(data)
    except WeightsError:
        return


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damage
@pytest.mark.parametrize(
    "inputs", [pytest.param(200, id="short"), pytest.param(40_000, id="long", marks=pytest.mark.long)]
)
@pytest.mark.parametrize(
    ("files", "check"),
    [(pictures, picture_or_error), (tars, rows_or_error), (caffemodels, network_or_error)],
    ids=("images", "tars", "caffemodels"),
)
def test_any_bytes_give_something_sound_or_an_error_of_ours(
    files: Callable[[], Sequence[bytes]], check: Callable[[bytes], None], inputs: int
) -> None:
    tried(inputs)(given(damaged(files()))(check))()
