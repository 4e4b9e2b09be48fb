"""Finished rows and file notes for tests of what is written and read back."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import masks
from pipeline.batch.ledger import Ledger
from pipeline.batch.manifest import Ids
from pipeline.batch.parts import cut
from pipeline.masks import DatasetInfo

MASK = np.array([[0, 1, 1], [0, 0, 2]], np.uint8)


def info(**changes: Any) -> DatasetInfo:
    """Make a note with three classes."""
    values: dict[str, Any] = {
        "classes": ("ground", "tree", "sky"),
        "palette": ((0, 0, 0), (128, 0, 0), (0, 128, 0)),
        "model": "tiny",
        "model_digest": "d" * 64,
        "crf": None,
        "generation": "g",
        "run_id": "run1",
        "created": "2026-01-02T03:04:05+00:00",
    }
    return DatasetInfo(**(values | changes))


def finished_row(key: str, version: str = "1", failed: bool = False) -> dict[str, Any]:
    """Make a row of schema FINISHED for a 2x3 mask, or for an image that failed."""
    identity = {"key": key, "source": f"s3://b/{key}", "version": version}
    if failed:
        return identity | {"stage": "decode", "error": "ImageError", "message": "empty"}
    return identity | {
        "digest": "0" * 64,
        "height": 2,
        "width": 3,
        "mask": {"bytes": masks.encode(MASK, info().palette), "path": None},
        "confidence": 0.75,
        "classes": [{"id": 0, "name": "ground", "pixels": 3, "confidence": 0.5}],
    }


def undone(done: Ledger, asked: pa.Table) -> pa.Table:
    """Choose the rows of a manifest that have no row in the output yet."""
    chosen = [ids.table for part in cut([Ids(asked)]) for ids in part.where(done.is_pending(part))]
    return pa.concat_tables([asked.slice(0, 0), *chosen])
