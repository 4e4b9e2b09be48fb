import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline import images
from pipeline.errors import ImageError

COLOUR = (200, 100, 50)
LOSSLESS = ("PNG", "BMP", "TIFF", "GIF")


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode="RGB", colour=COLOUR, size=(5, 4)):
    return Image.new(mode, size, colour)


def noise(height=48, width=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(depth, colour_type, pixel, *chunks, size=(1, 1)):
    """A PNG written by hand: one pixel, and the chunks that come before it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    middle = b"".join(chunk(*item) for item in chunks)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + middle
        + chunk(b"IDAT", zlib.compress(b"\0" + pixel))
        + chunk(b"IEND", b"")
    )


def tiff(pixel, bits, photometric=1, sample_format=1, order="<"):
    """A TIFF of one pixel written by hand; sample_format 1 unsigned, 2 signed, 3 float; photometric 0 white is zero."""
    samples = len(bits)
    fields = [
        (256, 3, 1, 1),  # width
        (257, 3, 1, 1),  # height
        (258, 3, samples, bits[0] if samples == 1 else 8),  # bits per sample, here or at offset 8
        (259, 3, 1, 1),  # not compressed
        (262, 3, 1, photometric),
        (273, 4, 1, 14),  # the pixel's offset
        (277, 3, 1, samples),
        (278, 3, 1, 1),  # rows per strip
        (279, 4, 1, len(pixel)),
        (339, 3, 1, sample_format),
    ]
    start = 14 + len(pixel) + len(pixel) % 2
    body = struct.pack(f"{order}{samples}H", *bits).ljust(6, b"\0") + pixel.ljust(start - 14, b"\0")
    directory = struct.pack(order + "H", len(fields))
    for tag, kind, count, value in fields:
        short = kind == 3 and count == 1
        directory += struct.pack(
            order + "HHI" + ("HH" if short else "I"), tag, kind, count, *((value, 0) if short else (value,))
        )
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", start) + body + directory + bytes(4)


def grey_alpha(grey, alpha):
    return round(grey * alpha / 255 + 255 - alpha)


def palette_image(transparency=None):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, *COLOUR])
    options = {} if transparency is None else {"transparency": transparency}
    return encoded(image, "PNG", **options), encoded(image, "GIF", **({"transparency": 1} if transparency else {}))


PALETTE = (b"PLTE", bytes((10, 20, 30, *COLOUR)))
HALF = tuple(round(channel * 128 / 255 + 127) for channel in COLOUR)
WHITE = (255, 255, 255)

KINDS = {
    **{kind: (encoded(plain(), kind), COLOUR) for kind in LOSSLESS},
    "webp lossless": (encoded(plain(), "WEBP", lossless=True), COLOUR),
    "webp": (encoded(plain(), "WEBP", quality=95), COLOUR),
    "jpeg": (encoded(plain(), "JPEG", quality=100), COLOUR),
    "jpeg progressive": (encoded(plain(), "JPEG", quality=100, progressive=True), COLOUR),
    "jpeg grey": (encoded(plain("L", 77), "JPEG", quality=100), (77, 77, 77)),
    "jpeg of a phone, two pictures": (
        encoded(plain(), "MPO", save_all=True, append_images=[plain(colour="blue")], quality=100),
        COLOUR,
    ),
    # inks: no cyan, full magenta and yellow. Stored inverted with Adobe's marker in a JPEG, as they are in a TIFF.
    "jpeg cmyk": (encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG", quality=100), (255, 0, 0)),
    "jpeg cmyk black": (encoded(plain("CMYK", (0, 0, 0, 255)), "JPEG", quality=100), (0, 0, 0)),
    "jpeg cmyk mixed": (encoded(plain("CMYK", (0, 51, 102, 0)), "JPEG", quality=100), (255, 204, 153)),
    "tiff cmyk": (encoded(plain("CMYK", (0, 51, 102, 0)), "TIFF"), (255, 204, 153)),
    "tiff ycbcr": (encoded(plain("YCbCr", (100, 128, 128)), "TIFF"), (100, 100, 100)),
    "tiff lzw": (encoded(plain(), "TIFF", compression="tiff_lzw"), COLOUR),
    "tiff of 8-bit rgb": (tiff(bytes(COLOUR), (8, 8, 8), photometric=2), COLOUR),
    "tiff of 16-bit rgb": (tiff(struct.pack("<3H", 51400, 25700, 12850), (16, 16, 16), photometric=2), COLOUR),
    "tiff of 16-bit rgb, big-endian": (
        tiff(struct.pack(">3H", 51400, 25700, 12850), (16, 16, 16), photometric=2, order=">"),
        COLOUR,
    ),
    "tiff of 16-bit grey": (tiff(struct.pack("<H", 51400), (16,)), (200,) * 3),
    "tiff of 16-bit grey, big-endian": (tiff(struct.pack(">H", 51400), (16,), order=">"), (200,) * 3),
    "tiff of 16-bit grey, white is zero": (tiff(struct.pack("<H", 51400), (16,), photometric=0), (55,) * 3),
    "tiff of 12-bit grey": (tiff(bytes((0xFF, 0xF0, 0)), (12,)), (255,) * 3),
    "tiff of 32-bit grey within 16": (tiff(struct.pack("<I", 51400), (32,)), (200,) * 3),
    "tiff of float grey": (tiff(struct.pack("<f", 0.4), (32,), sample_format=3), (102,) * 3),
    "png 1-bit white": (png(1, 0, b"\x80"), WHITE),
    "png 1-bit black": (png(1, 0, b"\x00"), (0, 0, 0)),
    "png 2-bit grey": (png(2, 0, b"\x80"), (170,) * 3),
    "png 4-bit grey": (png(4, 0, b"\xc0"), (204,) * 3),
    "png 8-bit grey": (png(8, 0, b"\xc8"), (200,) * 3),
    "png 16-bit grey": (png(16, 0, struct.pack(">H", 51400)), (200,) * 3),
    "png 16-bit grey, dark": (png(16, 0, struct.pack(">H", 257)), (1,) * 3),
    "png 16-bit grey, white": (png(16, 0, struct.pack(">H", 65535)), WHITE),
    "png 16-bit rgb": (png(16, 2, struct.pack(">HHH", 51400, 25700, 12850)), COLOUR),
    "png 16-bit grey with alpha": (png(16, 4, struct.pack(">HH", 0, 128 * 257)), (grey_alpha(0, 128),) * 3),
    "png 16-bit rgb with alpha": (png(16, 6, struct.pack(">HHHH", 0, 0, 0, 0)), WHITE),
    "png grey with alpha": (encoded(plain("LA", (100, 128)), "PNG"), (grey_alpha(100, 128),) * 3),
    "png rgb with alpha, opaque": (encoded(plain("RGBA", (*COLOUR, 255)), "PNG"), COLOUR),
    "png rgb with alpha, half": (encoded(plain("RGBA", (*COLOUR, 128)), "PNG"), HALF),
    "png rgb with alpha, transparent": (encoded(plain("RGBA", (0, 0, 0, 0)), "PNG"), WHITE),
    "png rgb with a transparent colour": (png(8, 2, bytes(COLOUR), (b"tRNS", struct.pack(">HHH", *COLOUR))), WHITE),
    "png rgb with another transparent colour": (
        png(8, 2, bytes(COLOUR), (b"tRNS", struct.pack(">HHH", 1, 2, 3))),
        COLOUR,
    ),
    "png palette": (png(8, 3, b"\1", PALETTE), COLOUR),
    "png palette of 1 bit": (png(1, 3, b"\x80", PALETTE), COLOUR),
    "png palette, transparent entry": (png(8, 3, b"\1", PALETTE, (b"tRNS", b"\xff\x00")), WHITE),
    "png palette, half transparent entry": (png(8, 3, b"\1", PALETTE, (b"tRNS", b"\xff\x80")), HALF),
    "png palette, opaque entry": (png(8, 3, b"\1", PALETTE, (b"tRNS", b"\x00\xff")), COLOUR),
    "gif palette": (palette_image()[1], COLOUR),
    "gif palette, transparent entry": (palette_image(transparency=1)[1], WHITE),
    "webp with alpha": (encoded(plain("RGBA", (0, 0, 0, 0)), "WEBP", lossless=True, exact=True), WHITE),
    "gif animated": (encoded(plain(), "GIF", save_all=True, append_images=[plain(colour="blue")]), COLOUR),
    "webp animated": (
        encoded(plain(), "WEBP", save_all=True, append_images=[plain(colour="blue")], lossless=True),
        COLOUR,
    ),
    "png animated": (encoded(plain(), "PNG", save_all=True, append_images=[plain(colour="blue")]), COLOUR),
    "tiff of two pages": (encoded(plain(), "TIFF", save_all=True, append_images=[plain(colour="blue")]), COLOUR),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_colour_is_decoded(kind):
    data, colour = KINDS[kind]
    pixels = images.decode(data)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.flags.c_contiguous
    tolerance = 3 if kind.startswith(("jpeg", "webp")) else 1
    np.testing.assert_allclose(
        pixels.reshape(-1, 3).astype(int), np.broadcast_to(colour, (pixels[..., 0].size, 3)), atol=tolerance
    )


@pytest.mark.parametrize("kind", LOSSLESS[:3])
def test_every_pixel_and_its_place(kind):
    picture = noise()
    np.testing.assert_array_equal(images.decode(encoded(picture, kind)), np.asarray(picture))


@pytest.mark.parametrize("size", [(1, 1), (60000, 1), (1, 60000), (3, 2500)])
def test_unusual_sizes(size):
    gradient = np.arange(size[0] * size[1] * 3, dtype=np.uint32).astype(np.uint8).reshape(size[1], size[0], 3)
    np.testing.assert_array_equal(images.decode(encoded(Image.fromarray(gradient), "PNG")), gradient)


CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
"""Where orientation N takes the stored top left corner (TIFF 6.0, tag 274); from 5 on rows become columns."""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    stored = Image.new("RGB", (48, 32), "black")
    stored.paste((255, 255, 255), (0, 0, 16, 16))
    stored.paste((128, 128, 128), (16, 0, 48, 16))  # the rest of the first row of blocks
    exif = Image.Exif()
    exif[0x0112] = orientation
    kind, _, compression = kind.partition(" ")
    options = {"compression": f"tiff_{compression}"} if compression else {}
    pixels = images.decode(encoded(stored, kind, exif=exif, **options))
    assert pixels.shape == ((48, 32, 3) if orientation > 4 else (32, 48, 3))
    row, column = (8 if index == 0 else index * 8 for index in CORNERS[orientation])
    assert pixels[row, column, 0] > 230
    first_row_now = pixels[:, column, 0] if orientation > 4 else pixels[row, :, 0]
    assert (abs(first_row_now.astype(int) - 128) < 30).sum() > 20  # the grey lies along the same line


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_does_not_fail_a_good_image(exif):
    pixels = images.decode(encoded(plain(), "JPEG", quality=100, exif=exif))
    np.testing.assert_allclose(pixels, np.broadcast_to(COLOUR, pixels.shape), atol=3)


def test_an_unknown_orientation_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 99
    assert images.decode(encoded(plain(), "JPEG", exif=exif)).shape == (4, 5, 3)


def test_the_bytes_decide_and_not_the_name():
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"} == images.EXTENSIONS
    assert images.decode(bytearray(encoded(plain(), "PNG"))).shape == (4, 5, 3)


BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"<html>404</html>", "not a JPEG"),
    "a format that is not named": (encoded(plain(), "PPM"), "not a JPEG"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
    "only a jpeg marker": (b"\xff\xd8\xff", "cannot be decoded"),
    "riff that is no webp": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(32), "cannot be decoded"),
    "png header wider than its rows": (png(8, 2, bytes(30), size=(11, 10)), "truncated"),
    "png header of 10^10 pixels": (
        png(8, 2, b"", size=(100_000, 100_000)),
        "10000000000 pixels; the limit is 200000000",
    ),
    "png of no width": (png(8, 2, b"", size=(0, 5)), "cannot be decoded"),
    "float grey beyond 1": (tiff(struct.pack("<f", 7.5), (32,), sample_format=3), "grey values from 7.5"),
    "float grey, nan": (tiff(struct.pack("<f", float("nan")), (32,), sample_format=3), "grey values from nan"),
    "32-bit grey beyond 16 bits": (tiff(struct.pack("<I", 70000), (32,)), "grey values from 70000"),
    "signed grey below 0": (tiff(struct.pack("<h", -3), (16,), sample_format=2), "grey values from -3"),
    "float rgb": (tiff(struct.pack("<3f", 0, 0, 0), (32, 32, 32), photometric=2, sample_format=3), "cannot be decoded"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_image_is_an_image_error(kind):
    data, message = BROKEN[kind]
    with pytest.raises(ImageError, match=message):
        images.decode(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["JPEG", "JPEG progressive", "PNG", "WEBP", "BMP", "TIFF", "TIFF lzw", "GIF"])
def test_a_truncated_file_is_an_image_error(kind, part):
    kind, _, variant = kind.partition(" ")
    options = {"progressive": {"progressive": True}, "lzw": {"compression": "tiff_lzw"}}.get(variant, {})
    data = encoded(noise(), kind, **options)
    with pytest.raises(ImageError):
        images.decode(data[: int(len(data) * part)])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_random_damage_gives_a_picture_or_an_image_error(kind):
    data = bytearray(encoded(noise(), kind))
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data) if rng.random() < 0.5 else 120, 4):
            damaged[position % len(data)] = rng.integers(256)
        try:
            pixels = images.decode(bytes(damaged), max_pixels=10**6)
        except ImageError:
            continue
        assert pixels.shape[2] == 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_the_limit_is_on_width_times_height(kind):
    data = encoded(noise(48, 64), kind)
    assert images.decode(data, max_pixels=48 * 64).shape == (48, 64, 3)
    with pytest.raises(ImageError, match="64x48 = 3072 pixels; the limit is 3071"):
        images.decode(data, max_pixels=48 * 64 - 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "TIFF lzw", "GIF"])
def test_pillows_own_limit_neither_interferes_nor_changes(kind, monkeypatch):
    kind, _, compression = kind.partition(" ")
    data = encoded(noise(), kind, **({"compression": "tiff_lzw"} if compression else {}))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.decode(data).shape == (48, 64, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_the_header_tells_the_size_of_a_file_cut_short(kind):
    data = encoded(noise(48, 64), kind)
    whole = kind in ("WEBP", "TIFF")  # one is parsed as a whole, the other has its header at the end
    assert images.header_pixels(data if whole else data[:1200]) == 48 * 64
    assert images.header_pixels(data[:4]) == images.header_pixels(b"") == 0
