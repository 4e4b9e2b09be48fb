"""JPEG, WebP and GIF against imagecodecs: libjpeg-turbo and libwebp called by another hand, and giflib."""

import io
import itertools
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pipeline import images
from tests.helpers.encoded import rgb_on_white
from tests.helpers.pictures import photo

PICTURE = photo(0, 77, 101)  # no multiple of a block


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", [30, 75, 98])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
def test_jpeg(subsampling: str, progressive: bool, quality: int) -> None:
    data = saved(Image.fromarray(PICTURE), "JPEG", subsampling=subsampling, progressive=progressive, quality=quality)
    np.testing.assert_array_equal(images.decode(data), imagecodecs.jpeg8_decode(data))


@pytest.mark.parametrize("restart_rows", [0, 1])
@pytest.mark.parametrize("kind", ["grey", "rgb without a transform"])
def test_jpeg_of_other_colours(kind: str, restart_rows: int) -> None:
    picture = Image.fromarray(PICTURE)
    options = {"keep_rgb": True} if kind != "grey" else {}
    data = saved(
        picture.convert("L") if kind == "grey" else picture, "JPEG", restart_marker_rows=restart_rows, **options
    )
    np.testing.assert_array_equal(images.decode(data), rgb_on_white(imagecodecs.jpeg8_decode(data)))


@pytest.mark.parametrize("transformed", [False, True])
def test_jpeg_of_inks(transformed: bool) -> None:
    """Stored inverted, as Adobe does: imagecodecs gives the samples as they are stored."""
    light = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 200, np.uint8)])
    data = imagecodecs.jpeg8_encode(light, level=95, colorspace="cmyk", outcolorspace="ycck" if transformed else "cmyk")
    stored = imagecodecs.jpeg8_decode(data, outcolorspace="cmyk").astype(np.float64)
    np.testing.assert_allclose(images.decode(data), stored[..., :3] * stored[..., 3:] / 255, atol=1)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("lossless", [False, True])
def test_webp(lossless: bool, alpha: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, PICTURE.shape[:2], dtype=np.uint8)
    data = imagecodecs.webp_encode(np.dstack([PICTURE, noise]) if alpha else PICTURE, lossless=lossless, level=80)
    other = rgb_on_white(imagecodecs.webp_decode(data))
    np.testing.assert_allclose(images.decode(data), other, atol=0.51 if alpha else 0)


@pytest.mark.parametrize(
    ("colours", "interlaced", "transparent"), list(itertools.product((2, 4, 16, 200), (False, True), (None, 1)))
)
def test_gif(colours: int, interlaced: bool, transparent: int | None) -> None:
    options = {} if transparent is None else {"transparency": transparent}
    data = saved(Image.fromarray(PICTURE).quantize(colours), "GIF", interlace=int(interlaced), **options)
    np.testing.assert_array_equal(images.decode(data), rgb_on_white(imagecodecs.gif_decode(data)))
