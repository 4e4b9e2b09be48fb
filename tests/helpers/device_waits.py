"""A context in which the host may not wait for a GPU, for tests that run with one and without."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from triton.runtime.interpreter import GridExecutor

WAITING = {"cpu", "cuda", "item", "tolist", "nonzero", "__bool__", "__int__", "__float__", "__index__"}


class _Refused(TorchFunctionMode):
    """Refuses calls that wait where their device is a GPU, whatever device it is."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given, name = kwargs or {}, function.__name__
        makes = name in {"tensor", "as_tensor"} and "device" in given
        moves = name == "to" and not isinstance(args[1], torch.dtype) and not given.get("non_blocking")
        assert name not in WAITING | ({name} if makes or moves else set()), f"torch's {name} waits for the device"
        return function(*args, **given)


@contextmanager
def without_waits() -> Iterator[None]:
    """Refuse what waits for the device; where there is a GPU PyTorch refuses it, too."""
    launch = GridExecutor.__call__

    def launched(*args: Any, **kwargs: Any) -> None:
        with torch._C.DisableTorchFunction():  # how the interpreter comes by a kernel's arguments does not matter
            launch(*args, **kwargs)

    on_gpu = torch.cuda.is_available()
    with mock.patch.object(GridExecutor, "__call__", launched), _Refused():
        if on_gpu:
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            if on_gpu:
                torch.cuda.set_sync_debug_mode("default")
