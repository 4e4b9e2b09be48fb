"""Which labelled picture a mask of the main job is of: by the file that both are in, and the key there."""

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.data.formats.format import Pair
from pipeline.data.rows import printable
from pipeline.errors import ConfigError
from pipeline.storage import redact


class _Picture(NamedTuple):
    """A labelled picture by its file's redacted URI, and its position among the pairs."""

    uri: str
    position: int


class PictureNames:
    """Find the labelled pictures of masks.

    A mask is of the picture in the file that its row names; where the input was a list, whatever the key. Where that
    file is not in the data, this may be a copy: the mask is of the picture whose file has the same path below the
    input. Within a shard both have the same name; of pictures with one name the job has segmented the first.
    """

    def __init__(self, pairs: Sequence[Pair], data: str, job_input: str) -> None:
        """Take the pairs that are scored, the URI they were listed at, and the input noted with the masks."""
        self._pairs = pairs
        self._data, self._input = printable(redact(data)), job_input
        self._pictures: dict[tuple[str, str], list[_Picture]] = {}
        self._files: dict[str, int] = {}  # of pictures that are files by themselves
        located = [(pair.image, index) for index, pair in enumerate(pairs) if pair.image is not None]
        located.sort(key=lambda item: (item[0].uri, item[0].offset or 0, item[0].row or 0))
        for image, index in located:
            uri = printable(redact(image.uri))
            if image.key == image.path:
                self._files.setdefault(uri, index)
            same_name = self._pictures.setdefault((_file_name(uri), _key_in_file(image.key, image.path)), [])
            if not any(picture.uri == uri for picture in same_name):
                same_name.append(_Picture(uri, index))

    def find(self, key: str, source: str) -> int | None:
        """Say of which pair a mask is; None where it is of none.

        Args:
            key: of the mask.
            source: redacted URI of the file its picture came from; empty where its file does not say.

        Raises:
            ConfigError: it could be of several.
        """
        if not self._input and source in self._files:
            return self._files[source]
        path = source[len(self._input) + 1 :] if _is_below(source, self._input) else key
        pictures = self._pictures.get((_file_name(path), _key_in_file(key, path)), [])
        if _is_below(source, self._data):
            pictures = [picture for picture in pictures if picture.uri == source]
        else:
            pictures = [picture for picture in pictures if picture.uri.endswith(f"/{path}")]
        if len(pictures) > 1:
            first, second = (self._pairs[picture.position].key for picture in pictures[:2])
            raise ConfigError(
                f"the mask {key!r} could be that of {len(pictures)} labelled pictures, such as {first!r} and "
                f"{second!r}; segment them with an input from which their keys differ"
            )
        return pictures[0].position if pictures else None


def _is_below(uri: str, root: str) -> bool:
    return bool(root) and (uri == root or uri.startswith(f"{root.rstrip('/')}/"))


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _key_in_file(key: str, path: str) -> str:
    """Say what tells a picture from others of its file: nothing for a whole file, /NAME in a shard, #N for a row."""
    return key.removeprefix(path)
