"""Web servers as a storage: ranges are checked, and outages told apart from what is not there."""

import html
from typing import Any

import aiohttp
from fsspec.asyn import _run_coros_in_chunks, sync_wrapper
from fsspec.implementations.http import HTTPFileSystem
from fsspec.spec import AbstractBufferedFile

from pipeline.storage import outages

_ANSWER_SECONDS = 300.0
"""What one answer may take as a whole, however slowly it comes."""


def timeout() -> aiohttp.ClientTimeout:
    """Return how long a web server is waited for: by itself aiohttp gives one that is silent those five minutes too."""
    return aiohttp.ClientTimeout(
        total=_ANSWER_SECONDS, sock_connect=outages.CONNECT_SECONDS, sock_read=outages.READ_SECONDS
    )


class WebFileSystem(HTTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Read from a web server as fsspec does, without what it takes for granted there."""

    async def _cat_file(self, url: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Read an object, or the bytes from `start` to `end`. Raises NotImplementedError where others are sent."""
        if start is None or end is None:
            return bytes(await super()._cat_file(url, start, end, **options))
        if start >= end:
            return b""
        session = await self.set_session()
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        async with session.get(self.encode_url(url), headers=headers) as response:
            if response.status == 416:  # they lie behind the end
                return b""
            self._raise_not_found_for_status(response, url)
            if response.status == 200 and start == 0:  # it serves no ranges, and the whole begins with this one
                return await _first(response.content, end)
            first = response.headers.get("Content-Range", "").removeprefix("bytes").strip().partition("-")[0]
            if response.status != 206 or first != str(start):
                raise NotImplementedError(
                    f"asked for bytes {start} to {end - 1}, the server answers {response.status} with others; "
                    "copy the file to a storage that serves ranges"
                )
            return bytes(await response.read())

    def _open(self, path: str, mode: str = "rb", **options: Any) -> AbstractBufferedFile:
        """Open an object, read by ranges. Raises OSError where the server does not say how long it is."""
        info = self.info(path)
        if info["size"] is None:
            raise OSError("the server does not say how long the file is; copy it to a storage that serves ranges")
        return _WebFile(self, path, mode, size=info["size"], **options)

    async def _info(self, url: str, **options: Any) -> dict[str, Any]:
        """Ask for size and version. What a server redirects to a name ending in a slash, or has there, is a folder."""
        try:
            info: dict[str, Any] = await super()._info(url, **options)
        except FileNotFoundError as error:  # fsspec raises it for every failure
            cause = error.__cause__
            if cause is not None and not (
                isinstance(cause, aiohttp.ClientResponseError) and cause.status in (404, 410)
            ):
                raise cause from None
            if "?" in url or url.endswith("/"):
                raise
            folder = await self._info(f"{url}/", **options)  # some servers know a folder by its slash alone
            if folder["type"] != "directory":
                raise
            return folder
        is_folder = info.get("mimetype") == "text/html" and info["url"].partition("?")[0].endswith("/")
        return info | {"type": "directory" if is_folder else "file"}

    async def _exists(self, path: str, strict: bool = True, **options: Any) -> bool:
        """Tell whether an object is there. Raises aiohttp.ClientError where the server does not say."""
        return bool(await super()._exists(path, strict=strict, **options))

    async def _ls(self, url: str, detail: bool = True, **options: Any) -> list[Any]:
        """List the links of a page; their sizes and versions are asked for one by one.

        A dead link has neither, and one that the server refuses: who fetches it is told why. Raises OSError for the
        address of a page with a query, below which nothing lies.
        """
        if "?" in url:
            raise OSError(
                "it is a folder, and the address of one has no query; leave out the `?` and what is behind it"
            )
        folder = url.rstrip("/") + "/"
        found = {link["name"]: link for link in await super()._ls(folder, detail=True, **options)}
        names = {_target(link, folder): link for link in found}
        links: list[dict[str, Any]] = [found[link] | {"name": name} for name, link in names.items() if name]
        files = [link for link in links if link["type"] == "file"]
        infos = await _run_coros_in_chunks(
            [self._info(link["name"]) for link in files], batch_size=self.batch_size, return_exceptions=True
        )
        for link, info in zip(files, infos, strict=True):
            if isinstance(info, dict):
                link |= info
            elif not isinstance(info, Exception) or outages.is_outage(info):
                raise info
        return links if detail else sorted(link["name"] for link in links)

    ls = sync_wrapper(_ls)  # fsspec has bound its own


def _target(link: str, folder: str) -> str:
    """Give the name below `folder` that a link of its page leads to; empty where it leads to the page itself, or up.

    Such are the links by which Apache's pages are sorted, ?C=N;O=D.
    """
    in_folder = len(folder.partition("://")[2])
    written = html.unescape(link.partition("://")[2][in_folder:])  # it may say https on a page that is read by http
    while written.startswith("./"):
        written = written[2:]
    return "" if written.startswith(("?", "#", "../")) or written in ("", ".", "..") else folder + written


async def _first(content: aiohttp.StreamReader, count: int) -> bytes:
    """Read so many bytes, or all there are; the rest is not asked for."""
    parts: list[bytes] = []
    while count > 0 and (part := await content.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class _WebFile(AbstractBufferedFile):  # type: ignore[misc]
    """An object on a web server, read by ranges that the filesystem checks."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))
