"""Tar and Parquet inputs for the tests, and what the job's source and fetch make of them."""

import base64
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from pipeline.batch.fetch import fetch_chunk
from pipeline.batch.manifest import Ids, Manifest
from pipeline.data import rows
from pipeline.data.index import index_objects, index_shard
from pipeline.data.source import Source, open_source


def tar_bytes(members: Mapping[str, bytes] | Sequence[tuple[str, bytes]], **options: Any) -> bytes:
    """A tar of these members, in their order; in a sequence a name may come twice."""
    pairs = members.items() if isinstance(members, Mapping) else members
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **({"format": tarfile.PAX_FORMAT} | options)) as archive:
        for name, data in pairs:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def parquet_bytes(table: pa.Table, row_group_size: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=row_group_size, **options)
    return buffer.getvalue()


class _OpenKeys(pe.KmsClient):  # type: ignore[misc]
    """Keeps keys as they are."""

    def wrap_key(self, key: bytes, master: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, master: str) -> bytes:
        return base64.b64decode(key)


def encrypted_bytes(table: pa.Table, column: str, *, plaintext_footer: bool) -> bytes:
    """A Parquet file of which one column is encrypted, and the footer where it is no plain text."""
    settings = pe.EncryptionConfiguration(
        footer_key="footer", column_keys={"column": [column]}, plaintext_footer=plaintext_footer
    )
    factory = pe.CryptoFactory(lambda _: _OpenKeys())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), settings)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def listed(source: Source, folder: Path) -> Manifest:
    """The manifest of an input, written into `folder`."""
    manifest = Manifest(str(folder))

    def listed() -> Iterator[Ids]:
        for entry in source.entries():
            reader = source.reader(entry)
            tables = index_shard(entry, reader) if reader.is_shard else [index_objects([entry], reader)]
            yield from (Ids(table, reader.whole_lists) for table in tables)

    manifest.write(listed())
    manifest.close()
    return manifest


def fetched_rows(source: Source, manifest: Manifest) -> list[dict[str, Any]]:
    """All rows that a manifest names."""
    return [
        row
        for chunk in manifest.chunks
        for table in fetch_chunk(source, manifest.uri, chunk, 5)
        for row in table.cast(rows.FETCHED).to_pylist()
    ]


def fetched(uri: str, tmp_path: Path) -> list[dict[str, Any]]:
    """All rows of an input, by way of a manifest."""
    source = open_source(uri, "auto")
    return fetched_rows(source, listed(source, tmp_path / "manifest"))
