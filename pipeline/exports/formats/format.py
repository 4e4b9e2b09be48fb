"""The seam for exports: what one has to do, and nothing of how images are chosen, read, counted and resumed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from pipeline.exports.image import ExportedImage
from pipeline.masks import DatasetInfo

Put = Callable[[str, bytes], None]
"""Writes a file whole, by its path below the destination."""


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """Write the files of one kind of data set.

    Attributes:
        info: class names, colours and origin of the masks.
        put: writes a file.
        name_of: gives the path, without suffix, that files of a key have; see FileNames.
    """

    name: ClassVar[str]
    """As `--to` knows it."""

    needs_pictures: ClassVar[bool] = False
    """Whether images come with their pictures."""

    part_images: ClassVar[int] = 1000
    """Images that a part has at most; a part of small files, or of few bytes an image, may have many."""

    info: DatasetInfo
    put: Put
    name_of: Callable[[str], str]

    def check(self) -> None:
        """Raise ConfigError where a library is missing."""

    def begin(self) -> None:
        """Write what can be written before any image."""

    def part(self, number: int, images: Iterable[ExportedImage]) -> None:
        """Write the images of part `number`, from 0; the same call may come again, and writes the same."""
        raise NotImplementedError

    def finish(self, images: int) -> None:
        """Write what can be written only once all `images` are."""
