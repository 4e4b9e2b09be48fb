"""How this process's C library deals with memory that is freed."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)
_KEPT_BYTES = 2**30


def keep_freed_memory() -> None:
    """Have this process keep up to 1 GiB that it has freed, where the C library is glibc; nothing elsewhere.

    By itself glibc gives a block of 32 MiB back as soon as it is freed, and smaller ones when enough lie free together.
    A network on a CPU asks for the same again at its next layer, and each page of it comes by a fault.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
