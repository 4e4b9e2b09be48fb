"""One run at a time on an output, and none for ever."""

import threading
import time

import pytest

from pipeline import storage
from pipeline.errors import RunError
from pipeline.runtime.lock import Lock, held


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue({"local": "tmp_path", "s3": "bucket"}[request.param]))


def lock(output: str, run_id: str, settle: float = 0.3) -> Lock:
    return Lock(output=output, run_id=run_id, lease=2.0, beat=0.2, settle=settle)


def test_the_second_run_names_the_first(output: str) -> None:
    with held(lock(output, "first")):
        with pytest.raises(RunError, match=r"run first \(process \d+ on .*\) has the lock of"):
            lock(output, "second").take()
        lock(output, "first").check()
    with held(lock(output, "third")):
        pass
    assert not storage.exists(f"{output}/_lock.json")


def test_a_dead_run_does_not_hold_it_for_ever(output: str) -> None:
    dead = lock(output, "dead")
    dead.renew()
    with held(lock(output, "next")):
        with pytest.raises(RunError, match="run next"):
            dead.check()
        dead.release()  # not its own any more
        lock(output, "next").check()


def test_a_lock_that_is_no_json_is_taken_over(output: str) -> None:
    storage.put_whole(f"{output}/_lock.json", b"\x00 not json")
    with held(lock(output, "next")):
        pass


def test_of_two_that_come_at_once_one_works(output: str) -> None:
    working, refused = [], []

    def run(name: str) -> None:
        try:
            with held(lock(output, name, settle=1.5)) as mine:
                working.append(name)
                time.sleep(4)
                mine.check()
        except RunError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=run, args=(f"run{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(working) == 1
    assert len(refused) == 1
    assert working[0] in refused[0]


def test_a_claim_that_another_overwrites_is_not_confirmed(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other saw no lock either, and writes while the first waits for such a one."""
    first, second = lock(output, "first", settle=60.0), lock(output, "second")
    first.claim()
    first.check()
    monkeypatch.setattr(time, "sleep", lambda seconds: second.renew() if seconds > 0 else None)
    with pytest.raises(RunError, match="run second"):
        first.confirm()


def test_a_renewal_that_came_late_ends_the_run(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run's write hangs for longer than its lease, and arrives when another has taken over."""
    first, second = lock(output, "first"), lock(output, "second")
    first.take()
    put = storage.put_whole

    def hang(*args: object, **options: object) -> None:
        monkeypatch.undo()
        second.take()
        put(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "put_whole", hang)
    first.keep()
    with pytest.raises(RunError, match=r"cut off from .* for longer than its lock holds"):
        first.check()


def test_a_renewal_that_reads_the_lock_late_is_not_written(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = lock(output, "mine")
    mine.take()
    before = storage.read_bytes(f"{output}/_lock.json")
    read = storage.read_if_there
    monkeypatch.setattr(storage, "read_if_there", lambda uri: (time.sleep(1.2), read(uri))[1])
    mine.keep()
    monkeypatch.undo()
    assert storage.read_bytes(f"{output}/_lock.json") == before
    mine.keep()
    assert storage.read_bytes(f"{output}/_lock.json") != before
