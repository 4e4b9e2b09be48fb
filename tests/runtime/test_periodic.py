"""What runs beside the main thread: called again and again, stopped for sure, and heard when it fails."""

import threading

import pytest

from pipeline.runtime.periodic import every


def test_the_action_is_repeated_and_then_stops() -> None:
    calls = []
    third = threading.Event()

    def action() -> None:
        calls.append(threading.current_thread())
        if len(calls) == 3:
            third.set()

    with every(0.01, action):
        assert third.wait(30)
    made = len(calls)
    assert not calls[0].is_alive()
    assert len(calls) == made


def test_what_the_action_raises_reaches_the_block() -> None:
    failed = threading.Event()

    def action() -> None:
        failed.set()
        raise ValueError("storage is gone")

    with pytest.raises(ValueError, match="storage is gone"), every(0.01, action) as check:
        assert failed.wait(30)
        while True:
            check()


def test_the_error_of_the_block_comes_first() -> None:
    with pytest.raises(KeyboardInterrupt), every(0.01, lambda: None):
        raise KeyboardInterrupt
