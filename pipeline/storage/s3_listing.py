"""Listing a bucket by many pagers at once, which find out themselves how its names divide, in the storage's order.

A page that is not the last of its group (the names with one prefix) is divided behind its last name: the names that
share a longer prefix with that one are a group of their own, and the first page behind them is asked for at once. The
prefixes get shorter from page to page, so few pages lead to groups of every size, and each group is divided likewise.
"""

import heapq
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.errors import StorageError
from pipeline.storage.s3_pages import Listed, Page

PAGERS = 32
_AHEAD_PAGES = 256  # of those that are behind the one that is due; a page takes a quarter of a MiB
_LAST = "\U0010ffff"

Ask = Callable[[str, str], Page]
"""Gives the first page of the names that begin with the first text and come after the second.

A page that others follow has names: behind the last of them it is gone on.
"""


def list_objects(ask: Ask, prefix: str) -> Iterator[Sequence[Listed]]:
    """Yield the pages of all objects whose names begin with `prefix`, in the order in which one pager meets them.

    Nothing is asked for ahead before the second page is wanted.

    Raises:
        StorageError: the storage does not list names in order.
        OSError and others: as `ask` does.
    """
    first = ask(prefix, "")
    yield first.objects
    if first.more:
        yield from _Pagers(ask).below(prefix, first.objects[-1].key)


@dataclass(eq=False)
class _Slot:
    """A page to come: of the names in the group `prefix` behind `after`; then the slots that follow it, in order.

    `shorter` is by how many letters a group behind its last name is to be larger than the page itself.
    """

    prefix: str
    after: str
    shorter: int = 1
    page: Page | None = None
    followers: list["_Slot"] = field(default_factory=list)

    def __lt__(self, other: "_Slot") -> bool:
        """Ask for what is due sooner first; where the storage has another order, only time is lost."""
        return self.after < other.after


class _Pagers:
    """Threads that ask for pages, the earliest first, and one consumer of them."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._changed = threading.Condition()
        self._pending: list[_Slot] = []
        self._ahead = 0  # pages that are there and not consumed
        self._is_waiting = self._is_closed = False
        self._failure: BaseException | None = None

    def below(self, prefix: str, after: str) -> Iterator[Sequence[Listed]]:
        """Yield the pages of the names that begin with `prefix` and come after `after`."""
        due = [_Slot(prefix, after)]
        heapq.heappush(self._pending, due[0])
        for _ in range(PAGERS):
            threading.Thread(target=self._work, daemon=True).start()
        try:
            while due:
                slot = due.pop()
                page = self._taken(slot)
                due.extend(reversed(slot.followers))
                yield page.objects
        finally:
            with self._changed:
                self._is_closed = True
                self._changed.notify_all()

    def _taken(self, slot: _Slot) -> Page:
        """Wait for a page. Raises what a thread has met."""
        with self._changed:
            self._is_waiting = slot.page is None
            if self._is_waiting:
                self._changed.notify_all()
            self._changed.wait_for(lambda: slot.page is not None or self._failure is not None)
            self._is_waiting = False
            if slot.page is None:
                assert self._failure is not None
                raise self._failure
            self._ahead -= 1
            self._changed.notify_all()
            return slot.page

    def _work(self) -> None:
        while slot := self._next():
            try:
                page = self._ask(slot.prefix, slot.after)
                _check(slot, page)
                self._take(slot, page)
            except BaseException as error:  # whatever it is: the consumer waits for a page or for this
                with self._changed:
                    self._failure = self._failure or error
                    self._changed.notify_all()
                return

    def _take(self, slot: _Slot, page: Page) -> None:
        with self._changed:
            if page.more:
                is_wide = len(self._pending) >= 2 * PAGERS and self._ahead < _AHEAD_PAGES
                slot.followers = [_next_page(slot, page)] if is_wide else _divided(slot, page)
                for follower in slot.followers:
                    heapq.heappush(self._pending, follower)
            slot.page = page
            self._ahead += 1
            self._changed.notify_all()

    def _next(self) -> _Slot | None:
        """Wait until there is something to ask for; None where the consumer has gone, or something has failed."""

        def is_over() -> bool:
            return self._is_closed or self._failure is not None

        def may_ask() -> bool:
            return bool(self._pending) and (self._ahead < _AHEAD_PAGES or self._is_waiting)

        with self._changed:
            self._changed.wait_for(lambda: is_over() or may_ask())
            return None if is_over() else heapq.heappop(self._pending)


def _next_page(slot: _Slot, page: Page) -> _Slot:
    return _Slot(slot.prefix, page.objects[-1].key, slot.shorter)


def _divided(slot: _Slot, page: Page) -> list[_Slot]:
    """Divide what is behind a page: the rest of a group around its last name, and the group's names behind that."""
    last = page.objects[-1].key
    shared = next((n for n, (a, b) in enumerate(zip(page.objects[0].key, last, strict=False)) if a != b), 0)
    group = last[: max(shared - slot.shorter, len(slot.prefix) + 1)]
    if group == last:
        return [_next_page(slot, page)]
    return [_Slot(group, last), _Slot(slot.prefix, group + _LAST, slot.shorter + 1)]


def _check(slot: _Slot, page: Page) -> None:
    """Raise StorageError where names come again: they would be listed twice."""
    group = slot.after.removesuffix(_LAST)
    if group != slot.after and any(listed.key.startswith(group) for listed in page.objects):
        raise StorageError(f"the storage does not list names in order: those that begin with {group!r} come again")
