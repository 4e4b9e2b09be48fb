"""Files and objects by URI: list, read, probe, and write whole or not at all.

A URI is a local path or anything fsspec opens (`s3://`, and `gs://`, `abfs://`, `memory://` ... where the extra is
installed). S3 takes its endpoint, region and keys from the standard AWS_* variables or profile; a self-hosted endpoint
is addressed path-style.
"""

from pipeline.storage.access import concerns_one_object, filesystem
from pipeline.storage.anywhere import read_anywhere, store_fails
from pipeline.storage.listing import Entry, is_listed, list_files, list_folder
from pipeline.storage.local import OnSkip, Skipped
from pipeline.storage.objects import (
    delete,
    exists,
    opened,
    put_whole,
    read_bytes,
    read_if_there,
    read_ranges,
    remove_unfinished,
)
from pipeline.storage.outages import StorageConfig, is_outage, retry_seconds, retrying, with_retries
from pipeline.storage.parquet import column_chunks, parquet_file
from pipeline.storage.probes import PROBE_SECONDS, probe_object, probe_writable, within
from pipeline.storage.uri import (
    Uri,
    absolute,
    base_name,
    is_absolute,
    join,
    normalize,
    redact,
    redact_secrets,
    redact_text,
)

__all__ = [
    "PROBE_SECONDS",
    "Entry",
    "OnSkip",
    "Skipped",
    "StorageConfig",
    "Uri",
    "absolute",
    "base_name",
    "column_chunks",
    "concerns_one_object",
    "delete",
    "exists",
    "filesystem",
    "is_absolute",
    "is_listed",
    "is_outage",
    "join",
    "list_files",
    "list_folder",
    "normalize",
    "opened",
    "parquet_file",
    "probe_object",
    "probe_writable",
    "put_whole",
    "read_anywhere",
    "read_bytes",
    "read_if_there",
    "read_ranges",
    "redact",
    "redact_secrets",
    "redact_text",
    "remove_unfinished",
    "retry_seconds",
    "retrying",
    "store_fails",
    "with_retries",
    "within",
]
