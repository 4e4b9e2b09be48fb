"""One run at a time on an output, whatever the job: a lock with a lease, kept as an object in the output.

The holder renews it every few seconds. A run that meets a lock reads it again for the length of a lease, by its own
clock: a lock that changes has a living holder, one that does not is taken over. The holder reads it right before each
file is put, so a run that was suspended and lost its lock commits nothing more.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline import storage
from pipeline.errors import RunError, StorageError
from pipeline.runtime.periodic import every
from pipeline.runtime.progress import say


def new_run_id() -> str:
    """Name a run that begins now; later ones sort behind it."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


@dataclass(kw_only=True)
class Lock:
    """The lock of `output` in the hands of `run_id`, kept at `place` below it; all times in seconds.

    `former` is the run that it was taken over from; empty where it was free.
    """

    output: str
    place: str = "_lock.json"
    run_id: str = field(default_factory=new_run_id)
    lease: float = 20.0
    beat: float = 4.0
    settle: float = 1.0
    former: str = field(default="", init=False)
    _beats: int = 0
    _late: bool = False
    _claimed: float = 0.0

    def take(self) -> None:
        """Claim the lock and confirm it. Raises as these do."""
        self.claim()
        self.confirm()

    def claim(self) -> None:
        """Wait until the lock is free, at most a lease, and write it. It is this run's once it is confirmed.

        Raises:
            RunError: another run holds it; the message names it.
            StorageError: the storage does not answer.
        """
        note, deadline = self._read(), time.monotonic() + self.lease
        if note is not None:
            say(f"waiting {self.lease:.0f} s to see whether {_holder(note)} is alive")
        while note is not None and time.monotonic() < deadline:
            time.sleep(min(self.settle, self.lease / 4))
            newer = self._read()
            if newer is not None and newer != note:
                raise RunError(self._taken(newer))
            note = newer
        self.former = str(_fields(note).get("run_id", "")) if note else ""
        self.renew()
        self._claimed = time.monotonic()

    def confirm(self) -> None:
        """Check the lock once `settle` seconds have gone since it was claimed; called again, check it at once.

        Of two runs that came at once, the later has then written over the earlier. Raises as `check` does.
        """
        time.sleep(max(0.0, self._claimed + self.settle - time.monotonic()))
        self.check()

    def check(self) -> None:
        """Raise RunError where the lock is no longer this run's, or may not have been."""
        if self._late:
            raise RunError(
                f"run {self.run_id} was cut off from {storage.redact(self.output)} for longer than its lock holds; "
                "run the same command again"
            )
        note = self._read()
        if note is None or _fields(note).get("run_id") != self.run_id:
            raise RunError(self._taken(note))

    def keep(self) -> None:
        """Write the lock anew, if it is still this run's. A write that came late may have hit a successor's."""
        began = time.monotonic()
        self.check()
        if time.monotonic() - began < self.lease / 2:
            self.renew()
            self._late = time.monotonic() - began > self.lease

    def renew(self) -> None:
        """Write the lock, whoever had it."""
        self._beats += 1
        note = {"run_id": self.run_id, "host": socket.gethostname(), "pid": os.getpid(), "beat": self._beats}
        storage.put_whole(self._uri, json.dumps(note).encode(), once=True)

    def release(self) -> None:
        """Give the lock up, if it is still this run's and the storage answers; else its lease runs out."""
        with suppress(RunError, StorageError):
            self.check()
            storage.delete(self._uri)

    @property
    def _uri(self) -> str:
        return storage.join(self.output, self.place)

    def _read(self) -> bytes | None:
        return storage.read_if_there(self._uri)

    def _taken(self, note: bytes | None) -> str:
        who = "another run, which has ended," if note is None else _holder(note)
        return f"{who} has the lock of {storage.redact(self.output)}; wait until it ends, then run the same command"


@contextmanager
def held(lock: Lock) -> Iterator[Lock]:
    """Hold `lock` for a block, renewing it on a thread. Raises as Lock.take does."""
    with claimed(lock):
        lock.confirm()
        yield lock


@contextmanager
def claimed(lock: Lock) -> Iterator[Lock]:
    """Claim `lock` for a block, and renew it on a thread; the block confirms it before it writes. Raises as it does."""
    lock.claim()

    def keep() -> None:
        with suppress(StorageError):  # an outage that lasts ends the run elsewhere
            lock.keep()

    try:
        with every(lock.beat, keep):
            yield lock
    finally:
        lock.release()


def put_checked(uri: str, data: bytes, check: Callable[[], None]) -> None:
    """Put one object whole; call `check`, of a Lock, right before, and again where the storage has to be asked again.

    Raises:
        RunError: this run may write no more.
        StorageError: the storage cannot be written, or does not answer.
    """

    def attempt() -> None:
        check()
        storage.put_whole(uri, data, once=True)

    storage.with_retries(attempt)


def _fields(note: bytes) -> dict[str, object]:
    try:
        fields = json.loads(note)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _holder(note: bytes) -> str:
    fields = _fields(note)
    return f"run {fields.get('run_id')} (process {fields.get('pid')} on {fields.get('host')})"
