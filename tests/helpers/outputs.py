"""Outputs of runs, written without a run."""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import masks, storage
from pipeline.masks import DatasetInfo

Mask = NDArray[np.uint8]

CLASSES = ("ground", "tree", "sky")
PALETTE = ((0, 0, 0), (128, 0, 0), (0, 128, 0))


def note(generation: str = "g", run: int = 1, night: int = 2, **changes: Any) -> DatasetInfo:
    """Make the note of a run's files; runs with a higher number are later in the night, one of January's."""
    values: dict[str, Any] = {
        "classes": CLASSES,
        "palette": PALETTE,
        "model": "tiny",
        "model_digest": "d" * 64,
        "crf": {"bilateral_xy": 67.0, "bilateral_rgb": 3.0},
        "generation": generation,
        "run_id": f"202601{night:02}T03040{run}-aaaaaa",
        "created": (datetime(2026, 1, night, tzinfo=UTC) + timedelta(minutes=run)).isoformat(),
    }
    return DatasetInfo(**(values | changes))


def blocks(seed: int, height: int = 60, width: int = 80, classes: int = len(CLASSES)) -> Mask:
    """Draw a mask (H, W) of rectangles."""
    rng = np.random.default_rng(seed)
    small: Mask = rng.integers(0, classes, (6, 8), dtype=np.uint8)
    return np.kron(small, np.ones((height // 6, width // 8), np.uint8))


def row(key: str, mask: Mask, info: DatasetInfo, encoded: bytes = b"", confidence: float = 0.75) -> dict[str, Any]:
    """Make a row of masks/: each class has the confidence of the image."""
    ids, pixels = np.unique(mask, return_counts=True)
    return {
        "key": key,
        "source": f"{info.input}/{key}",
        "version": "1",
        "digest": hashlib.sha256(encoded).hexdigest() if encoded else "",
        "height": mask.shape[0],
        "width": mask.shape[1],
        "mask": {"bytes": masks.encode(mask, info.palette), "path": None},
        "confidence": confidence,
        "classes": [
            {"id": int(i), "name": info.classes[i], "pixels": int(n), "confidence": confidence}
            for i, n in zip(ids, pixels, strict=True)
        ],
        "model": info.model,
        "run_id": info.run_id,
    }


def failure(key: str, info: DatasetInfo, error: str = "ImageError", message: str = "cut off") -> dict[str, Any]:
    """Make a row of errors/."""
    source = f"{info.input}/{key}"
    named = {"stage": "decode", "error": error, "message": message, "run_id": info.run_id}
    return {"key": key, "source": source, "version": "1"} | named


def put_rows(
    output: str, info: DatasetInfo, rows: Iterable[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a run's files, each of one row group for 16 rows."""
    for folder, schema, some in (
        (masks.MASKS_FOLDER, masks.MASKS_SCHEMA, list(rows)),
        (masks.ERRORS_FOLDER, masks.ERRORS_SCHEMA, list(failed)),
    ):
        if some:
            table = pa.Table.from_pylist(some, schema=schema.with_metadata(info.to_metadata(schema)))
            buffer = io.BytesIO()
            pq.write_table(table, buffer, row_group_size=16)
            storage.put_whole(f"{output}/{folder}/{info.run_id}-00000.parquet", buffer.getvalue())


def put_tar(uri: str, members: Mapping[str, bytes]) -> None:
    """Write a tar of `members`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    storage.put_whole(uri, buffer.getvalue())
