"""TIFF: layouts that Pillow's own reader, or its reading of what libtiff gives, takes for something else."""

import io
from typing import Any, NoReturn

from PIL import ImagePalette
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    COMPRESSION,
    EXTRASAMPLES,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILELENGTH,
    TILEOFFSETS,
    TILEWIDTH,
    YCBCRSUBSAMPLING,
    TiffImageFile,
)

from pipeline.errors import ImageError

_NOT_COMPRESSED, _PADDED = 1, 32771  # Compression
_SEPARATE = 2  # PlanarConfiguration: each sample in a plane of its own
_YCBCR = 6  # PhotometricInterpretation
_UNASSOCIATED_ALPHA = 2  # ExtraSamples
_LARGEST_TILE = 2**24  # pixels
_SIGNED = (2,)  # SampleFormat
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""Pillow's raw modes of big-endian samples, which libtiff has already put into the machine's own order."""


def refused_tiff(_: io.BytesIO) -> NoReturn:
    """Raise ImageError for a BigTIFF in big-endian order, which Pillow takes for another kind of TIFF."""
    raise ImageError("a BigTIFF in big-endian order cannot be decoded; store it in little-endian order, or as a TIFF")


class TiffFile(TiffImageFile):
    """A TIFF, read by libtiff where Pillow's own reader of uncompressed files misreads it.

    Raises:
        ImageError: grey and alpha in separate planes, which Pillow misplaces; signed grey below 0; tiles far larger
            than the picture.
    """

    def _setup(self) -> None:
        tags = self.tag_v2
        raw = tags.get(COMPRESSION, _NOT_COMPRESSED) == _NOT_COMPRESSED
        separate = tags.get(PLANAR_CONFIGURATION) == _SEPARATE
        misread = (separate and not self._has_byte_planes()) or self._has_few_chroma()
        by_libtiff = raw and misread and self._has_places()
        if by_libtiff:
            tags[COMPRESSION] = _PADDED  # all but the uncompressed goes to libtiff, which reads the file's own tag
        super()._setup()
        if by_libtiff:
            tags[COMPRESSION] = _NOT_COMPRESSED
        if separate and self.mode in ("LA", "La", "PA"):
            raise ImageError(
                "a TIFF with grey and alpha in separate planes cannot be decoded; store them interleaved "
                "(PlanarConfiguration 1)"
            )
        if self.use_load_libtiff:
            self._check_tiles()
            self.tile = [tile._replace(args=_in_native_order(tile.args)) for tile in self.tile]
        if self.mode in ("P", "PA") and max(tags[COLORMAP]) < 256:  # of 8 bits, against the specification; as libtiff
            self.palette = ImagePalette.raw("RGB;L", bytes(tags[COLORMAP]))

    def _check_tiles(self) -> None:
        """Refuse tiles that are no part of the picture: memory is taken for a whole one, whatever the file holds."""
        tags = self.tag_v2
        across, down = tags.get(TILEWIDTH, 0), tags.get(TILELENGTH, 0)
        if across * down > max(_LARGEST_TILE, 4 * tags[IMAGEWIDTH] * tags[IMAGELENGTH]):
            raise ImageError(f"a TIFF of {tags[IMAGEWIDTH]}x{tags[IMAGELENGTH]} pixels in tiles of {across}x{down}")

    def _has_places(self) -> bool:
        """Tell whether strips or tiles are found: by damaged tags libtiff may take memory without bounds."""
        return STRIPOFFSETS in self.tag_v2 or all(tag in self.tag_v2 for tag in (TILEOFFSETS, TILEWIDTH, TILELENGTH))

    def _has_byte_planes(self) -> bool:
        """Tell whether the planes are bytes of red, green and blue, inks or plain alpha, which Pillow reads rightly."""
        tags = self.tag_v2
        return (
            set(tags.get(BITSPERSAMPLE, (1,))) == {8}
            and set(tags.get(EXTRASAMPLES, ())) <= {_UNASSOCIATED_ALPHA}
            and tags.get(PHOTOMETRIC_INTERPRETATION) != _YCBCR
        )

    def _has_few_chroma(self) -> bool:
        """Tell whether YCbCr is subsampled: by the tag (2, 2 where there is none), and by the bytes of the pixels."""
        tags = self.tag_v2
        if tags.get(PHOTOMETRIC_INTERPRETATION) != _YCBCR or tags.get(YCBCRSUBSAMPLING, (2, 2)) == (1, 1):
            return False
        stored: int = sum(tags.get(STRIPBYTECOUNTS) or tags.get(TILEBYTECOUNTS) or ())
        pixels: int = tags[IMAGEWIDTH] * tags[IMAGELENGTH]
        return stored < 3 * pixels

    def load_end(self) -> None:
        """Refuse signed bytes below 0: Pillow takes them for 128 to 255."""
        super().load_end()
        if self.mode == "L" and self.tag_v2.get(SAMPLEFORMAT) == _SIGNED and self.im.getextrema()[1] > 127:
            raise ImageError("signed grey values below 0 have no known white; store 8 or 16 bits without a sign")


def _in_native_order(args: Any) -> tuple[Any, ...]:
    """Replace the raw mode, the first of libtiff's arguments, by that of the machine's own byte order."""
    raw_mode, *others = args
    return _NATIVE.get(raw_mode, raw_mode), *others
