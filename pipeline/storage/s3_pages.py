"""Pages of an S3 listing, read by a parser that is an order of magnitude faster than the client's own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote_plus, urlsplit
from urllib.request import getproxies, proxy_bypass
from xml.parsers import expat

import fsspec
from fsspec.asyn import sync

from pipeline.errors import StorageError
from pipeline.storage.outages import CONNECT_SECONDS, READ_SECONDS, with_retries

_SIGNED_SECONDS = 3600


class Listed(NamedTuple):
    """One object: its key in the bucket, its size in bytes and its ETag."""

    key: str
    size: int
    etag: str


class Page(NamedTuple):
    """Objects in the order of the storage; `more` tells whether others follow."""

    objects: Sequence[Listed]
    more: bool


@dataclass
class Pages:
    """Asks for pages of a bucket, a thousand names each; many threads may ask at once.

    A page is asked for by a signed address, and parsed here. Where that does not work, as behind a proxy or without
    credentials, the client does it all.
    """

    fs: fsspec.AbstractFileSystem
    bucket: str
    at_once: int
    _direct: bool = True
    _has_worked: bool = False
    _http: Any = None

    def __post_init__(self) -> None:
        """Open no connection yet."""
        import urllib3  # comes with the client of S3, which is loaded where it is used

        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        self._http = urllib3.PoolManager(maxsize=self.at_once, timeout=timeout, retries=False)

    def __call__(self, prefix: str, after: str) -> Page:
        """Ask for the first page of the names that begin with `prefix` and come after `after`.

        A storage may say that others follow a page without names, as MinIO does where it passes over many that are
        deleted; such pages are passed over.

        Raises:
            StorageError: a page that is not the last leads to no other.
            OSError and others: as the client does.
        """
        wanted = {"Bucket": self.bucket, "Prefix": prefix} | ({"StartAfter": after} if after else {})
        page = self._read(wanted) if self._direct else None
        if page is None or _is_void(page):
            page = next(page for page in map(_of_client, self._answers(wanted)) if not _is_void(page))
            self._direct = self._has_worked
        return page

    def in_turn(self, prefix: str) -> Iterator[Sequence[Listed]]:
        """Yield the pages of the names that begin with `prefix`, each by the token that the one before it gave.

        So directory buckets are listed: in no order, from prefixes that are folders. Raises as a call does.
        """
        for answer in self._answers({"Bucket": self.bucket, "Prefix": prefix[: prefix.rfind("/") + 1]}):
            yield [listed for listed in _of_client(answer).objects if listed.key.startswith(prefix)]

    def _answers(self, wanted: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Yield what the client is answered, to the last page."""
        token: str | None = None
        while True:
            more = {"ContinuationToken": token} if token else {}
            answer = with_retries(partial(self.fs.call_s3, "list_objects_v2", **wanted, **more))
            yield answer
            if not answer.get("IsTruncated"):
                return
            before, token = token, answer.get("NextContinuationToken")
            if token in (None, before):
                raise StorageError(
                    f"the storage lists a part of {self.bucket} and does not say how it goes on; run again"
                )

    def _read(self, wanted: dict[str, str]) -> Page | None:
        """Ask by a signed address; None where that brings no page."""
        try:
            url = sync(self.fs.loop, _signed, self.fs, wanted | {"EncodingType": "url"})
            if _has_proxy(url):
                return None
            response = self._http.request("GET", url)
            page = _parsed(response.data) if response.status == 200 else None
            self._has_worked = self._has_worked or page is not None
            return page
        except Exception:  # whatever is wrong, the client meets it too, and says what it is
            return None


def _has_proxy(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


async def _signed(fs: fsspec.AbstractFileSystem, wanted: dict[str, str]) -> str:
    await fs.set_session()
    client = await fs.get_s3(wanted["Bucket"])
    return str(await client.generate_presigned_url("list_objects_v2", Params=wanted, ExpiresIn=_SIGNED_SECONDS))


class _Reading:
    """Collects an answer to ListObjectsV2 (Amazon S3 API reference) while it is parsed.

    No tree is made of it: Python's garbage collector would go through its thousands of elements again and again.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.told = dict[str, str]()  # texts of elements by their names, but for what `objects` has taken
        self.objects = list[tuple[str, int, str]]()
        self.text = list[str]()  # of the element that is open
        self.ended = ""  # the element that ended last

    def begin(self, _: str, __: object) -> None:
        """Forget the space before an element."""
        self.text.clear()

    def end(self, tag: str) -> None:
        """Take an element at its end."""
        told, self.ended = self.told, tag.rpartition(":")[2]
        if self.ended == "Contents":
            self.objects.append((told.pop("Key", ""), int(told.pop("Size", 0)), told.pop("ETag", "").strip('"')))
        else:
            told[self.ended] = "".join(self.text)
        self.text.clear()


def _parsed(data: bytes) -> Page:
    """Read the answer to ListObjectsV2. Raises ValueError for another document, and ExpatError for none."""
    reading, parser = _Reading(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reading.begin, reading.end
    parser.CharacterDataHandler = reading.text.append
    parser.Parse(data, True)
    if reading.ended != "ListBucketResult":
        raise ValueError(f"{reading.ended} is no listing")
    decoded = unquote_plus if reading.told.get("EncodingType") == "url" else str
    objects = [Listed(decoded(key), size, etag) for key, size, etag in reading.objects]
    return Page(objects, reading.told.get("IsTruncated") == "true")


def _is_void(page: Page) -> bool:
    return page.more and not page.objects


def _of_client(answer: dict[str, Any]) -> Page:
    objects = [Listed(i["Key"], int(i["Size"]), str(i["ETag"]).strip('"')) for i in answer.get("Contents", ())]
    return Page(objects, bool(answer.get("IsTruncated")))
