"""TIFF: planes, one for each sample, that Pillow's own reader takes for something else."""

from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    EXTRASAMPLES,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    TiffImageFile,
)

from pipeline.errors import ImageError

_SEPARATE = 2  # PlanarConfiguration: each sample in a plane of its own
_NOT_COMPRESSED, _PADDED = 1, 32771  # Compression
_YCBCR = 6  # PhotometricInterpretation
_UNASSOCIATED_ALPHA = 2  # ExtraSamples


class TiffFile(TiffImageFile):
    """A TIFF whose separate planes are read by libtiff where Pillow's own reader of uncompressed files misreads them.

    Raises:
        ImageError: grey and alpha in separate planes, of which libtiff's samples are put in the wrong place.
    """

    def _setup(self) -> None:
        tags = self.tag_v2
        separate = tags.get(PLANAR_CONFIGURATION) == _SEPARATE
        by_libtiff = separate and tags.get(COMPRESSION, _NOT_COMPRESSED) == _NOT_COMPRESSED and not self._bytes_alone()
        if by_libtiff:
            tags[COMPRESSION] = _PADDED  # Pillow asks libtiff for every compressed file, which reads the tag itself
        super()._setup()
        if by_libtiff:
            tags[COMPRESSION] = _NOT_COMPRESSED
        if separate and self.mode in ("LA", "La", "PA"):
            raise ImageError("a TIFF with grey and alpha in separate planes; store them interleaved (PlanarConfiguration 1)")

    def _bytes_alone(self) -> bool:
        """Tell whether the planes are 8 bits of red, green, blue, inks or plain alpha, which Pillow reads rightly."""
        tags = self.tag_v2
        return (
            set(tags.get(BITSPERSAMPLE, (1,))) == {8}
            and set(tags.get(EXTRASAMPLES, ())) <= {_UNASSOCIATED_ALPHA}
            and tags.get(PHOTOMETRIC_INTERPRETATION) != _YCBCR
        )
