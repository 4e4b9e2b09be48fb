"""What a pair may hold, and how each thing that is wrong with one is told."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.data.formats.format import Location, Pair
from pipeline.data.formats.images import Images
from pipeline.data.labelled.pairs import decode, decode_mask, fetch
from pipeline.labels import Labels
from tests.helpers.labelled import CLASSES, jpeg, pair, palette_png, png

LABELS = Labels(classes=CLASSES, void=9)
IMAGE, MASK = pair(0)


def test_void_and_255_are_not_counted():
    mask = MASK.copy()
    mask[0, :3], mask[1, :3] = 9, 255
    _, labels = decode(png(IMAGE), png(mask), LABELS)
    assert (labels[:2, :3] == 255).all()
    np.testing.assert_array_equal(labels[2:], MASK[2:])


def test_palette_and_grey_masks_are_the_same():
    grey, palette = (decode(png(IMAGE), encoded, LABELS)[1] for encoded in (png(MASK), palette_png(MASK)))
    np.testing.assert_array_equal(grey, MASK)
    np.testing.assert_array_equal(palette, MASK)


def low_bits(mask, bits, palette=False):
    """A PNG of 1, 2 or 4 bits a pixel, as the PNG specification packs them: the leftmost pixel in the highest bits."""
    height, width = mask.shape
    bytes_of_a_row = np.packbits(
        (mask[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8).reshape(height, -1), axis=1
    )
    rows = b"".join(b"\0" + row.tobytes() for row in bytes_of_a_row)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 3 if palette else 0, 0, 0, 0))]
    if palette:
        chunks.append((b"PLTE", bytes(range(3 * 2**bits))))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_values_of_masks_of_few_bits_are_read_as_they_are_stored(bits, palette):
    mask = (np.arange(48 * 62, dtype=np.int64).reshape(48, 62) % 2**bits).astype(np.uint8)
    np.testing.assert_array_equal(decode_mask(low_bits(mask, bits, palette)), mask)


def turned_jpeg(upright, orientation):
    """A JPEG that a viewer shows as `upright`, and whose stored pixels lie as EXIF says."""
    stored = Image.fromarray(upright).transpose(TURNED_BACK[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(stored)).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue(), np.asarray(stored)


TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_of_turned_pictures_lie_as_the_picture_lies(orientation):
    """Whether they were drawn on the upright picture, or, where sizes tell, on the picture as it is stored."""
    image, _ = turned_jpeg(IMAGE, orientation)
    drawn = [MASK]
    if orientation >= 5:
        drawn.append(np.asarray(Image.fromarray(MASK).transpose(TURNED_BACK[orientation])))
        assert drawn[1].shape == MASK.shape[::-1]
    for mask in drawn:
        pixels, ids = decode(image, png(mask), LABELS)
        assert np.abs(pixels.astype(int) - IMAGE).mean() < 8
        np.testing.assert_array_equal(ids, MASK)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_whether_sizes_tell_how_a_mask_was_drawn(tmp_path, orientation, square):
    side = 48 if square else 64
    image, _ = turned_jpeg(IMAGE[:, :side], orientation)
    [row] = fetched(tmp_path, image, png(MASK[:, :side]))
    told = orientation == 6 and not square
    assert row["drawn_on"] == (None if orientation == 1 else "upright" if told else "either")
    if told:
        [row] = fetched(tmp_path, image, png(np.rot90(MASK)))
        assert row["drawn_on"] == "stored"


def test_a_mask_that_fits_a_turned_picture_neither_way_names_exif(tmp_path):
    image, _ = turned_jpeg(IMAGE, 6)
    [row] = fetched(tmp_path, image, png(MASK[:-1]))
    told = "the picture is 64x48 pixels, as its EXIF orientation 6 turns it, and its mask 64x47; give both one size"
    assert row["problem"] == told


@pytest.mark.parametrize(
    ("image", "mask", "told"),
    [
        (png(IMAGE), png(MASK[:, :-1]), "the picture is 64x48 pixels and its mask 63x48"),
        (png(IMAGE), png(np.full_like(MASK, 3)), "the mask holds the class id 3; there are 3 classes, 0 to 2"),
        (png(IMAGE), png(IMAGE), "palette or grey; this one has the mode RGB"),
        (png(IMAGE), jpeg(MASK), "the mask is not a readable PNG"),
        (png(IMAGE), png(MASK)[:60], "the mask is not a readable PNG"),
        (png(IMAGE)[:-40], png(MASK), "the image cannot be decoded"),
        (b"", png(MASK), "the image is empty"),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(tmp_path, image, mask, told):
    [row] = fetched(tmp_path, image, mask)
    assert told in row["problem"]
    assert row["pixels"] is None


def at(folder, name):
    return Location(format=Images(), root=str(folder), path=name, key=name)


def fetched(folder, image, mask):
    (folder / "image").write_bytes(image)
    (folder / "mask").write_bytes(mask)
    return fetch([Pair("a", at(folder, "image"), at(folder, "mask"))], LABELS).to_pylist()


def test_a_good_pair_is_counted(tmp_path):
    mask = MASK.copy()
    mask[:2] = 9
    image = jpeg(IMAGE)
    [row] = fetched(tmp_path, image, palette_png(mask))
    assert row["problem"] is None
    assert (row["image"], row["pixels"]) == (image, [int((mask == label).sum()) for label in range(3)])


def test_what_is_gone_is_said(tmp_path):
    [row] = fetch([Pair("a", at(tmp_path, "gone.png"), None)], LABELS).to_pylist()
    assert "gone.png" in row["problem"]
