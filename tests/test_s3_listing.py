"""A bucket listed by many pagers: every name once, in the order of one pager, whatever the names are like."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import chain, islice
from typing import Any
from xml.parsers.expat import ExpatError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.storage import s3_listing
from pipeline.storage.s3_listing import list_objects
from pipeline.storage.s3_pages import Listed, Page, Pages, _parsed


class Bucket:
    """Names in the order that `order` gives them, and what was asked for."""

    def __init__(self, names: list[str], page: int, order: Callable[[str], object] = str.encode) -> None:
        self.order = order
        self.names = sorted(names, key=order)
        self.page = page
        self.asked: Counter[tuple[str, str]] = Counter()

    def __call__(self, prefix: str, after: str) -> Page:
        self.asked[prefix, after] += 1
        after_all = not after
        found = (
            Listed(name, 1, "e")
            for name in self.names
            if name.startswith(prefix) and (after_all or self.order(name) > self.order(after))
        )
        some = list(islice(found, self.page + 1))
        return Page(some[: self.page], len(some) > self.page)


def listed(bucket: Callable[[str, str], Page], prefix: str = "") -> list[str]:
    return [item.key for item in chain.from_iterable(list_objects(bucket, prefix))]


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\U0010ffff"), min_size=1, max_size=6)), st.data()
)
def test_any_names_come_once_and_in_order(names: set[str], data: st.DataObject) -> None:
    bucket = Bucket(list(names), data.draw(st.integers(1, 4)))
    prefix = data.draw(st.sampled_from(["", *(name[:1] for name in names)]))
    assert listed(bucket, prefix) == [name for name in bucket.names if name.startswith(prefix)]


SHAPES: dict[str, list[str]] = {
    "numbers": [f"in/{n:06d}.jpg" for n in range(5000)],
    "folders": [f"{a}/{b}/{n}.jpg" for a in "abc" for b in ("x", "x-1", "x.y", "ü") for n in range(300)],
    "one large folder": [*(f"a/{n}" for n in range(10)), *(f"b/{n:05d}" for n in range(4000)), "c/1"],
    "digests": [f"{random.Random(n).getrandbits(128):032x}" for n in range(4000)],
    "a chain": ["a" * n for n in range(1, 300)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_names_of_every_shape_come_once_for_few_pages_more(shape: str) -> None:
    bucket = Bucket(SHAPES[shape], 20)
    assert listed(bucket) == bucket.names
    assert max(bucket.asked.values()) == 1
    assert bucket.asked.total() <= 2.5 * len(bucket.names) / 20 + 2


class Waits:
    """Answers all that is asked for at once, when nobody asks any more; counts how often it did."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket, self.count = bucket, 0
        self._asked = threading.Condition()
        self._waiting = 0

    def __call__(self, prefix: str, after: str) -> Page:
        page = self.bucket(prefix, after)
        with self._asked:
            self._waiting += 1
            wait = self.count
            self._asked.wait_for(lambda: self.count > wait)
        return page

    def answer(self, is_over: threading.Event) -> None:
        before = 0
        while not is_over.wait(0.02):
            with self._asked:
                if self._waiting and self._waiting == before:
                    self._waiting, self.count = 0, self.count + 1
                    self._asked.notify_all()
                before = self._waiting


@pytest.mark.parametrize("shape", ["numbers", "folders", "digests"])
def test_many_pagers_wait_an_eighth_as_often_as_one(shape: str) -> None:
    """So where each page takes long, and not the processor, they are more than eight times as fast."""
    names = SHAPES[shape]
    waits, is_over = Waits(Bucket(names, len(names) // 400)), threading.Event()
    server = threading.Thread(target=waits.answer, args=(is_over,))
    server.start()
    try:
        assert listed(waits) == waits.bucket.names
    finally:
        is_over.set()
        server.join()
    assert 8 * waits.count <= 400


def test_a_storage_that_takes_a_folder_for_its_name_keeps_its_order() -> None:
    """As SeaweedFS does: what lies in x/ comes before x-1, though - comes before /."""
    bucket = Bucket(SHAPES["folders"], 7, order=lambda name: name.encode().replace(b"/", b"\0"))
    assert listed(bucket) == bucket.names


def test_a_storage_without_any_order_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(SHAPES["numbers"], 20)
    with pytest.raises(StorageError, match="does not list names in order: those that begin with 'in/"):
        listed(lambda prefix, _: bucket(prefix, ""))


def test_what_is_ahead_is_bounded_and_a_consumer_that_goes_ends_the_pagers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_listing, "_AHEAD_PAGES", 8)
    bucket = Bucket(SHAPES["digests"], 5)
    pages = list_objects(bucket, "")
    found = [*next(pages), *next(pages)]
    time.sleep(0.5)
    assert bucket.asked.total() <= 2 + 8 + s3_listing.PAGERS
    before = threading.active_count()
    found += chain.from_iterable(islice(pages, 100))
    pages.close()
    assert [item.key for item in found] == bucket.names[: len(found)]
    deadline = time.monotonic() + 10
    while threading.active_count() > before - s3_listing.PAGERS and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before - s3_listing.PAGERS


def test_a_failure_of_one_pager_is_raised_once() -> None:
    bucket = Bucket(SHAPES["numbers"], 20)

    def ask(prefix: str, after: str) -> Page:
        page = bucket(prefix, after)
        if "in/003000.jpg" in {item.key for item in page.objects}:
            raise PermissionError("no")
        return page

    with pytest.raises(PermissionError):
        listed(ask)


@pytest.mark.slow
def test_a_real_server_gives_the_same_by_many_pagers_and_by_its_client(bucket: str) -> None:
    """Names that need escaping in XML or in an address are among them."""
    fs, path = storage.filesystem(bucket)
    names = [f"in/{n:05d}.jpg" for n in range(2300)] + [f"in/a b+c%20&<{n}>é/x.jpg" for n in range(30)]
    names += [f"in/d{n % 7}/x-{n}" for n in range(700)]
    fs.pipe({f"{path}/{name}": b"x" for name in names})
    answers, more = [], {}
    while True:
        answer = fs.call_s3("list_objects_v2", Bucket=path, Prefix="in/", **more)
        answers += [(item["Key"], int(item["Size"]), item["ETag"].strip('"')) for item in answer["Contents"]]
        if not answer["IsTruncated"]:
            break
        more = {"ContinuationToken": answer["NextContinuationToken"]}
    pages = Pages(fs, path, 4)
    found = list(chain.from_iterable(list_objects(pages, "in/")))
    assert found == answers
    assert sorted(item.key for item in found) == sorted(names)
    assert pages._direct
    assert pages._has_worked
    pages._direct = False
    assert list(chain.from_iterable(list_objects(pages, "in/d"))) == [a for a in answers if a[0].startswith("in/d")]


class DirectoryBucket:
    """A directory bucket: no order, prefixes that are folders alone, and nothing but tokens to go on by."""

    names = ("in/b.jpg", "in/a.jpg", "in/sub/c.jpg", "in/az.jpg", "other/a.jpg")

    def call_s3(self, method: str, **wanted: str) -> dict[str, Any]:
        assert method == "list_objects_v2"
        assert "StartAfter" not in wanted
        assert wanted["Prefix"] == "" or wanted["Prefix"].endswith("/")
        names = [name for name in self.names if name.startswith(wanted["Prefix"])]
        place = int(wanted.get("ContinuationToken", 0))
        more = place + 2 < len(names)
        contents = [{"Key": name, "Size": 1, "ETag": '"x"'} for name in names[place : place + 2]]
        return {"Contents": contents, "IsTruncated": more} | ({"NextContinuationToken": str(place + 2)} if more else {})


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("", DirectoryBucket.names),
        ("in/", ("in/b.jpg", "in/a.jpg", "in/sub/c.jpg", "in/az.jpg")),
        ("in/a", ("in/a.jpg", "in/az.jpg")),
    ],
)
def test_a_directory_bucket_is_listed_page_by_page(prefix: str, names: tuple[str, ...]) -> None:
    pages = Pages(DirectoryBucket(), "photos--use1-az4--x-s3", at_once=1)
    assert tuple(listed.key for page in pages.in_turn(prefix) for listed in page) == names


class Hollow:
    """A server that names nothing at first, and says that more follows: so does MinIO behind many deleted objects."""

    def __init__(self, names: list[str], token: str = "all behind ") -> None:
        self.names, self.token = names, token

    def call_s3(self, method: str, **wanted: str) -> dict[str, Any]:
        assert method == "list_objects_v2"
        token = wanted.get("ContinuationToken")
        after = wanted.get("StartAfter", "") if token is None else token.removeprefix(self.token)
        left = [name for name in self.names if name.startswith(wanted["Prefix"]) and name > after]
        here = [] if token is None or token == "none" else left[:3]
        goes_on = {"NextContinuationToken": self.token + (here[-1] if here else after)} if self.token else {}
        contents = [{"Key": name, "Size": 1, "ETag": '"x"'} for name in here]
        return {"Contents": contents, "IsTruncated": len(here) < len(left)} | goes_on


@pytest.mark.parametrize("names", [[], ["a"], [f"in/{n:03}.jpg" for n in range(100)]])
def test_pages_without_names_are_passed_over(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    hollow = _ANSWER.format(more="true", encoding="").replace("Contents", "Others").encode()
    for read in (None, _parsed(hollow)):
        pages = Pages(Hollow(names), "photos", at_once=4)
        monkeypatch.setattr(Pages, "_read", lambda *_, page=read: page)
        assert listed(pages) == names
    assert [item.key for page in pages.in_turn("") for item in page] == names


@pytest.mark.parametrize("token", ["", "none"])
def test_a_listing_that_does_not_go_on_is_an_error(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pages, "_read", lambda *_: None)
    pages = Pages(Hollow(["a"], token), "photos", at_once=4)
    for ask in (lambda: listed(pages), lambda: list(pages.in_turn(""))):
        with pytest.raises(StorageError, match="does not say how it goes on"):
            ask()


@pytest.mark.parametrize("whole", [0, 1])
def test_whatever_is_wrong_with_a_page_reaches_the_consumer(whole: int) -> None:
    pages = iter([Page([Listed("a", 1, "e"), Listed("b", 1, "e")], True)] * whole)
    with pytest.raises(IndexError):
        listed(lambda *_: next(pages, Page([], True)))


_ANSWER = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Name>bucket</Name>
  <Contents>
    <Key>a%2Bb+c.jpg</Key>
    <ETag>&quot;12ab&quot;</ETag>
    <Size>7</Size>
    <Owner><ID>me</ID><DisplayName>me</DisplayName></Owner>
  </Contents>
  <Contents><ETag>34</ETag><Key>n&amp;m</Key><Size>0</Size></Contents>
  <CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>
  <IsTruncated>{more}</IsTruncated>
  <EncodingType>{encoding}</EncodingType>
</ListBucketResult>"""


@pytest.mark.parametrize(("encoding", "key"), [("url", "a+b c.jpg"), ("", "a%2Bb+c.jpg")])
@pytest.mark.parametrize("more", [True, False])
def test_an_answer_is_read_whatever_stands_between_its_elements(encoding: str, key: str, more: bool) -> None:
    answer = _ANSWER.format(more=str(more).lower(), encoding=encoding)
    with_prefix = re.sub(r"(</?)(\w)", r"\1s3:\2", answer).replace("xmlns=", "xmlns:s3=")
    wanted = Page([Listed(key, 7, "12ab"), Listed("n&m", 0, "34")], more)
    assert [_parsed(text.encode()) for text in (answer, answer.replace("\n", ""), with_prefix)] == [wanted] * 3


def test_the_last_page_of_a_bucket_may_be_empty() -> None:
    assert _parsed(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>") == Page([], False)


@pytest.mark.parametrize(
    "answer",
    [b"<html><body>Sign in</body></html>", b"<Error><Code>SlowDown</Code></Error>", b"", b"<ListBucketResult>"],
)
def test_what_is_no_listing_is_not_taken_for_an_empty_one(answer: bytes) -> None:
    with pytest.raises((ValueError, ExpatError)):
        _parsed(answer)
