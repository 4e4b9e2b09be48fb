"""The tables that the stages of the main job hand on; the first of them, FETCHED, is in pipeline.data.rows."""

import pyarrow as pa

from pipeline import masks
from pipeline.data.rows import FAILURE_FIELDS, FETCHED

LOGITS = pa.schema(
    [
        *FETCHED,
        pa.field("logits", pa.large_binary()),  # float16 (C, h, w) at the output stride
        pa.field("shape", pa.list_(pa.int32(), 3)),
    ]
)

FINISHED = pa.schema(
    [
        *(f for f in masks.MASKS_SCHEMA if f.name not in ("model", "run_id")),
        pa.field("carried", pa.string()),  # as in MANIFEST
        *FAILURE_FIELDS,
    ]
)
"""Either the mask columns are set or the failure columns are."""

SEGMENTED = pa.schema([*LOGITS, *(f for f in FINISHED if f.name not in LOGITS.names)])
"""What a GPU that refines some of its images hands on: those have their mask columns set, the others their logits."""
