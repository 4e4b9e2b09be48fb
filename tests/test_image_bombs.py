"""Small files that ask for much: what surrounds the pixels costs no more memory than a small multiple of the file."""

import io
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image

from pipeline import images
from pipeline.errors import ImageError


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 20, 30)).save(buffer, kind, **options)
    return buffer.getvalue()


def directory(entries: int, size: int) -> bytes:
    """A TIFF directory whose entries all claim the same `size` bytes as theirs."""
    fields = b"".join(struct.pack("<HHII", 1000 + n, 1, size, 8) for n in range(entries))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", entries) + fields + bytes(4)
    return head.ljust(size + 8, b"\0")


def endless_directory() -> bytes:
    """A TIFF directory that names itself as the next one, and as its own EXIF part."""
    fields = struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x8825, 4, 1, 8)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 2) + fields + struct.pack("<I", 8)


def inflated(kind: bytes) -> bytes:
    """A PNG with a compressed chunk of 200 MB before its pixels."""
    data = {b"zTXt": b"key\0\0", b"iCCP": b"name\0\0"}[kind] + zlib.compress(bytes(200_000_000), 9)
    whole = picture("PNG")
    header = 8 + 25  # the signature and IHDR
    return whole[:header] + chunk(kind, data) + whole[header:]


BOMBS = {
    "png exif": picture("PNG", exif=directory(20_000, 300_000)),
    "webp exif": picture("WEBP", exif=directory(20_000, 300_000)),
    "jpeg exif": picture("JPEG", exif=directory(5_000, 60_500)),
    "jpeg exif without end": picture("JPEG", exif=endless_directory()),
    "tiff": directory(20_000, 300_000),
    "png text": inflated(b"zTXt"),
    "png colour profile": inflated(b"iCCP"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bomb", BOMBS)
def test_it_costs_no_more_than_its_file(bomb: str) -> None:
    tracemalloc.start()
    try:
        assert images.decode(BOMBS[bomb]).shape == (8, 8, 3)
    except ImageError:
        pass  # with such things around it, it need not be a picture
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 12_000_000
