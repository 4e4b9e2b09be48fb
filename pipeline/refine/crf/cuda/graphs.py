"""Launches that come again and again, as CUDA graphs: one call instead of a hundred launches by the host."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch

CAPTURED_WHEN_SEEN = 3
"""Times that the same launches have come when they are captured; kernels are compiled and loaded by then."""

MOST = 64
"""Graphs, and launches that may become one, that are kept in mind."""


class Graphs:
    """Run work on a device: at first by launching it, and what comes often by replaying a graph of it."""

    def __init__(self, device: torch.device) -> None:
        """Choose the device; on any but CUDA all work is launched."""
        self._device = device
        self._seen: OrderedDict[Hashable, int | torch.cuda.CUDAGraph] = OrderedDict()

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do `work`, which launches kernels on the current stream and allocates nothing.

        `key` holds every argument that it passes, tensors by their addresses: of one key it is the same launches.
        """
        if self._device.type != "cuda":
            work()
            return
        known = self._seen.pop(key, 0)
        if isinstance(known, int) and known + 1 < CAPTURED_WHEN_SEEN:
            self._keep(key, known + 1)
            work()
            return
        graph = self._captured(work) if isinstance(known, int) else known
        self._keep(key, graph)
        graph.replay()

    def _captured(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # what other threads do on the device meanwhile, such as copies, is no reason to fail
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
        return graph

    def _keep(self, key: Hashable, known: "int | torch.cuda.CUDAGraph") -> None:
        self._seen[key] = known
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
