"""Probing whether a storage can be used at all, in seconds."""

import threading
import uuid
from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import StorageError
from pipeline.storage.access import bucket_and_key, explained, filesystem, scheme
from pipeline.storage.listing import walk
from pipeline.storage.objects import delete, put_whole, read_bytes
from pipeline.storage.uri import join, redact

PROBE_SECONDS = 12.0
_T = TypeVar("_T")


def probe_object(uri: str) -> None:
    """Ask for an object's head, which takes the right to read it and moves no byte of it. Raises StorageError."""
    fs, path = filesystem(uri)
    with explained(uri, "read"):
        if scheme(fs) == "file":
            fs.open(path, "rb").close()
        elif scheme(fs) == "s3":
            bucket, key = bucket_and_key(fs, path)
            fs.call_s3("head_object", Bucket=bucket, Key=key)
        else:
            fs.info(path)


def probe_writable(uri: str, seconds: float = PROBE_SECONDS) -> None:
    """Write a small object below `uri`, read it back and remove it. Raises StorageError within `seconds`."""
    probe = join(uri, f"_probe-{uuid.uuid4().hex}")
    token = uuid.uuid4().bytes

    def round_trip() -> None:
        fs, path = filesystem(uri)
        if scheme(fs) == "s3":
            with explained(uri, "list"):
                next(walk(fs, path), None)  # some servers create a bucket on writing; a misspelt one must not appear
        put_whole(probe, token)
        if read_bytes(probe) != token:
            raise StorageError(f"{redact(uri)} gives back other bytes than were written: it cannot hold results")
        delete(probe)

    within(seconds, uri, "write", round_trip)


def within(seconds: float, uri: str, action: str, call: Callable[[], _T]) -> _T:
    """Return or raise what `call` does: a dead endpoint must not keep a person waiting for its own time-out.

    Raises:
        StorageError: `seconds` have passed; the call goes on, on a thread that is left behind.
    """
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise StorageError(
            f"cannot {action} {redact(uri)}: no answer within {seconds:.0f} s; check AWS_ENDPOINT_URL and the network"
        ) from TimeoutError()
    return outcome[0]
