"""Bring pictures to a device and results back; with CUDA beside the work that the device is doing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.models.preprocessing import Image

Logits = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class OnDevice:
    """Hold an array on a device. `ready` is when it will be there or be computed; None where it is."""

    tensor: Tensor
    ready: torch.cuda.Event | None = None

    def wait(self) -> None:
        """Return once it is there."""
        if self.ready is not None:
            self.ready.synchronize()


class Transfer:
    """Copy when asked to; on the CPU nothing is copied."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def upload(self, images: Sequence[Image]) -> list[OnDevice]:
        """Bring pictures (H, W, 3) uint8, of any sizes, to the device."""
        writable = (np.require(image, requirements=("C", "W")) for image in images)  # torch takes no others
        return [OnDevice(torch.from_numpy(image).to(self._device)) for image in writable]

    def arrived(self, uploaded: Sequence[OnDevice]) -> list[Tensor]:
        """Give the tensors of what was uploaded, for work on the device."""
        return [one.tensor for one in uploaded]

    def leaving(self, tensors: Sequence[Tensor]) -> list[OnDevice]:
        """Mark what the work on the device gives, for `download`."""
        return [OnDevice(tensor) for tensor in tensors]

    def download(self, results: Sequence[OnDevice]) -> list[Logits]:
        """Fetch results once they are computed."""
        return [one.tensor.cpu().numpy() for one in results]


class CudaTransfer(Transfer):
    """Copy on streams of its own, through memory that stays in its place, so that no copy holds up the network.

    PyTorch gives pinned memory out again once the copies from or to it are done: it is a ring that grows as needed.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._up, self._down = _stream(device), _stream(device)

    def upload(self, images: Sequence[Image]) -> list[OnDevice]:
        """Start to bring pictures (H, W, 3) uint8 to the device, all in one copy."""
        sizes = [image.size for image in images]
        staged = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=True)
        for place, image in zip(torch.split(staged, sizes), images, strict=True):
            np.copyto(place.numpy().reshape(image.shape), image)
        with torch.cuda.stream(self._up):
            moved = staged.to(self._device, non_blocking=True)
            ready = self._up.record_event()
        shaped = zip(torch.split(moved, sizes), images, strict=True)
        return [OnDevice(pixels.view(image.shape), ready) for pixels, image in shaped]

    def arrived(self, uploaded: Sequence[OnDevice]) -> list[Tensor]:
        """Let the device's work wait for what was uploaded, and keep its memory until that work is done."""
        working = torch.cuda.current_stream(self._device)
        for one in uploaded:
            if one.ready is not None:
                working.wait_event(one.ready)
            one.tensor.record_stream(working)
        return super().arrived(uploaded)

    def leaving(self, tensors: Sequence[Tensor]) -> list[OnDevice]:
        """Mark when the work that the device has been given so far is done."""
        ready = _event()
        ready.record(torch.cuda.current_stream(self._device))
        return [OnDevice(tensor, ready) for tensor in tensors]

    def download(self, results: Sequence[OnDevice]) -> list[Logits]:
        """Fetch results once they are computed, beside the work that comes after them."""
        fetched = []
        with torch.cuda.stream(self._down):
            for one in results:
                if one.ready is not None:
                    self._down.wait_event(one.ready)
                one.tensor.record_stream(self._down)
                host = torch.empty(one.tensor.shape, dtype=one.tensor.dtype, pin_memory=True)
                fetched.append(host.copy_(one.tensor, non_blocking=True))
            done = _event()
            done.record(self._down)
        done.synchronize()
        return [host.numpy() for host in fetched]


class OwnStream:
    """Give work on a GPU a stream of its own, so that it does not stand behind what others have launched before."""

    def __init__(self) -> None:
        self._own: torch.cuda.Stream | None = None

    @contextmanager
    def working_on(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Launch on the stream what is launched in the context; on the CPU this changes nothing.

        Args:
            tensors: of one device, and there already; their memory is kept until the stream's work is done.
        """
        device = tensors[0].device
        if device.type != "cuda":
            yield
            return
        if self._own is None:  # it goes first: else each of its kernels would wait for one that fills the device
            self._own = _stream(device, priority=-1)
        for tensor in tensors:
            tensor.record_stream(self._own)
        with torch.cuda.stream(self._own):
            yield


def _stream(device: torch.device, priority: int = 0) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]


def _event() -> torch.cuda.Event:
    """Make an event that is waited for without taking a core."""
    return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]


def transfer_to(device: torch.device) -> Transfer:
    """Give the Transfer that suits a device."""
    return CudaTransfer(device) if device.type == "cuda" else Transfer(device)
