"""Numbers of the host on the device, without a wait for it."""

from collections.abc import Sequence

import torch
from torch import Tensor


def uploaded(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Make a tensor (N,) on the device; it is there for what is launched next on the current stream.

    torch.tensor(numbers, device=device) copies from memory that is not pinned, for which the host waits until the
    device has done all that it was given before.
    """
    staged = torch.tensor(numbers, dtype=dtype, pin_memory=device.type == "cuda")
    # may be freed at once: PyTorch gives pinned memory out again only when the copies from it are done
    return staged.to(device, non_blocking=True)
