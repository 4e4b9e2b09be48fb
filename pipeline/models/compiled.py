"""Compile a network once for pictures of all sizes, where that is possible and worth its time."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

EAGER_PASSES = 100
"""Passes before a network is compiled, which takes about a minute: so many take seconds, and a small run ends there."""

_SIDES = (2, 3)
_REASON = 300  # characters of what a compiler says

_log = logging.getLogger(__name__)


class Compiled:
    """Run a network (N, C, H, W) -> (N, C', h, w), compiled after EAGER_PASSES passes.

    Sizes are symbols in the compiled code: none needs more padding than it has, or code of its own. The compiler tells
    only 1 from the others, so that there is code for a picture alone and for several; sides of 1 stay uncompiled.
    Where compilation fails the network stays as it is, and the log says so once.
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self._network = network
        self._compiled: Callable[[Tensor], Tensor] | None = torch.compile(network)
        self._passes = 0

    def __call__(self, batch: Tensor) -> Tensor:
        """Run the network on a batch (N, C, H, W). Raises what the network itself raises."""
        self._passes += 1
        count, _, *sides = batch.shape
        if self._compiled is None or self._passes <= EAGER_PASSES or 1 in sides:
            return self._network(batch)
        for axis in _SIDES if count == 1 else (0, *_SIDES):
            torch._dynamo.mark_dynamic(batch, axis)
        try:
            return self._compiled(batch)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:  # of any kind: of the compiler, of what it calls, of a tool that is not there
            reason = " ".join(str(error).split())[:_REASON]
            _log.warning("the network runs uncompiled, and slower: %s: %s", type(error).__name__, reason)
            self._compiled = None
        return self._network(batch)
