"""WebDataset tars: every image member is a picture, and members that share a name up to its first dot are a sample."""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from fsspec.utils import merge_offset_ranges

from pipeline import storage
from pipeline.data.formats.format import Encoded, Fetched, Format, OnUnpaired, Pair
from pipeline.data.formats.pairing import paired_by_name
from pipeline.data.formats.shard import by_file, check_unchanged, opened
from pipeline.data.grouping import fetched_together
from pipeline.data.rows import Row, failure, printable, within
from pipeline.errors import ShardError, StorageError
from pipeline.images import EXTENSIONS

_RULE = 2
"""Number of the rule by which members are found, counted up when it finds others in some file."""

_ABOUT_THE_NEXT = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
"""Types of members that say something of the next one, such as a long name. They are read whole."""

_MOST_ABOUT_THE_NEXT = 1024 * 1024  # bytes
_MOST_BYTES = 2**60  # of any member: what lies behind one still has an offset of 64 bits
_READ_AHEAD_BYTES = 256 * 1024
_MAX_GAP_BYTES = 256 * 1024
_MAX_SPAN_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class WebDataset(Format):
    """A member is called by its name without the extension. Neighbouring members are fetched with one request."""

    name = "webdataset"
    suffixes = frozenset({".tar"})
    files = "tar files"

    @property
    def index_id(self) -> str:
        """See Format."""
        return f"rule {_RULE}"

    def index(self, entry: storage.Entry) -> Iterator[list[Row]]:
        """See Format. One list; where the tar is damaged, of the members before that."""
        images: list[Row] = []
        damage: ShardError | None = None
        try:
            images.extend(row for row in _members(entry) if _is_image(PurePosixPath(row["name"])))
        except ShardError as error:
            damage = error
        if images:
            yield images
        if damage:
            raise damage

    def pairs(self, entry: storage.Entry, on_unpaired: OnUnpaired) -> Iterator[Pair]:
        """See LabelledFormat."""
        return paired_by_name(self, entry, _members(entry), on_unpaired)

    def fetch(self, root: str, rows: Sequence[Row]) -> Iterator[Fetched]:
        """See Format."""
        for some in fetched_together(rows):
            for path, version, members in by_file(some):
                try:
                    check_unchanged(storage.join(root, path), version)
                    data: Sequence[Encoded] = _read_members(root, path, members)
                except ShardError as error:
                    data = [error] * len(members)
                yield list(zip(members, data, strict=True))


class _Header(tarfile.TarInfo):
    """A header whose size can be: by any other, Python reads backwards and never ends, or takes all that follows."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header. Raises tarfile.ReadError for a size that cannot be."""
        header = super().frombuf(buf, encoding, errors)
        _check_size(header)
        return header


def _is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in EXTENSIONS and not name.name.startswith(".")


def _members(entry: storage.Entry) -> Iterator[Row]:
    """List every member but folders, in order: a row of MANIFEST, and its `name`; a link or the like is a failed row.

    Headers are read ahead in small blocks, so large members are stepped over and small ones are not asked for singly.
    Archives that were written one after the other (`cat a.tar b.tar`) are all read.

    Raises:
        ShardError: the tar ends early, a header is damaged, or something else than archives follows its end.
        StorageError: the storage does not answer, or refuses to.
    """
    with opened(entry.uri, entry.version, "tar", _READ_AHEAD_BYTES) as stream:
        end = stream.seek(0, os.SEEK_END)
        start: int | None = 0
        while start is not None:
            stream.seek(start)
            with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header) as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # it would keep every header it has seen
                    _check_size(member)  # of a pax record too
                    if member.offset_data + member.size > end and not member.issparse():
                        raise tarfile.ReadError(f"it ends within {member.name}")
                    if not member.isdir():
                        yield _member(entry, member)
                start = _next_archive(stream, archive.offset)


def _check_size(member: tarfile.TarInfo) -> None:
    if not 0 <= member.size <= _MOST_BYTES or (member.type in _ABOUT_THE_NEXT and member.size > _MOST_ABOUT_THE_NEXT):
        raise tarfile.ReadError(f"{member.name} cannot have {member.size} bytes")


def _next_archive(stream: io.RawIOBase, mark: int) -> int | None:
    """Find what follows the end mark at byte `mark`, two or more blocks of zeros; None where the file ends with it.

    Raises:
        tarfile.ReadError: there is no such mark. A damaged header ends an archive too, and so does one that was
            overwritten by zeros: a single block of them, before more data, is no end.
    """
    stream.seek(mark)
    zeros, rest = 0, b""
    while not rest and (data := stream.read(_READ_AHEAD_BYTES)):
        rest = data.lstrip(tarfile.NUL)
        zeros += len(data) - len(rest)
    blocks = zeros // tarfile.BLOCKSIZE
    if blocks < (2 if rest else 1):
        raise tarfile.ReadError(f"no header and no end of the archive at byte {mark}")
    return mark + blocks * tarfile.BLOCKSIZE if rest else None


def _member(entry: storage.Entry, member: tarfile.TarInfo) -> Row:
    """Describe a member; what is no plain file fails: its bytes do not lie there in one piece."""
    path = PurePosixPath(member.name)
    row = within(entry, printable(str(path.with_suffix("") if path.name else path)))
    row |= {"name": member.name, "offset": member.offset_data, "length": member.size}
    if member.isfile() and not member.issparse():
        return row
    message = f"{member.name} is a link, a device or a sparse file, and holds no image as it is; store the image itself"
    return row | failure("list", ShardError(message))


def _read_members(root: str, path: str, members: Sequence[Row]) -> list[bytes | StorageError]:
    """Read members of one tar; neighbours are fetched with one request."""
    starts = [row["offset"] for row in members]
    ends = [row["offset"] + row["length"] for row in members]
    spans = merge_offset_ranges([path] * len(members), starts, ends, max_gap=_MAX_GAP_BYTES, max_block=_MAX_SPAN_BYTES)
    spans_data = storage.read_ranges(root, *spans)

    def cut(start: int, end: int) -> bytes | StorageError:
        for first, last, data in zip(*spans[1:], spans_data, strict=True):
            if first <= start and end <= last:
                return data if isinstance(data, StorageError) else data[start - first : end - first]
        raise AssertionError(f"no fetched span covers {path} {start}-{end}")

    return [cut(start, end) for start, end in zip(starts, ends, strict=True)]
