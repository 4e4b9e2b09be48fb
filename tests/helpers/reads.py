"""What is read of objects that are opened."""

import pytest

from pipeline.storage import objects


def read_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many bytes each read brings, from now on."""
    sizes: list[int] = []
    read = objects._Stream.read

    def noting(self: objects._Stream, size: int = -1) -> bytes:
        sizes.append(len(data := read(self, size)))
        return data

    monkeypatch.setattr(objects._Stream, "read", noting)
    return sizes
