"""What does a rerun with nothing to do cost? `python -m benchmarks.resume --input s3://BUCKET/PREFIX`.

Prints one table: for 1 000, 10 000 and 100 000 listed images that have their row in the output already, how long the
job takes to find that out, and how much memory its driver takes for it, in a fresh process each time. The last column
sets the peak against that of the row above: bytes for each image more.

The objects, of one byte, and the output's rows are put there first. --input is a place to write to, as for
benchmarks/listing.py, which says how to start a server. Linux only: the peak is read from /proc.
"""

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from benchmarks.listing import Measured, apart, put_objects, run_job
from benchmarks.table import markdown, number
from pipeline import storage
from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.rows import FINISHED
from pipeline.batch.run import dataset_info
from pipeline.batch.sink import write_files
from pipeline.cli import parse
from pipeline.data import rows
from pipeline.errors import ConfigError, ImageError, PipelineError, RunError
from pipeline.storage import Uri

_HEADER = ("images listed", "seconds", "MiB before", "MiB more at the peak", "bytes an image more")
_MIB = 1024**2
_ROWS_A_FILE = 10_000


@dataclass(frozen=True, kw_only=True)
class ResumeBenchmark:
    """Measure reruns over inputs that are done.

    Args:
        input: folder or prefix to put the objects and the outputs below.
        images: how many; each number is measured by itself, in this order.
    """

    input: Uri
    images: tuple[int, ...] = (1_000, 10_000, 100_000)

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if not self.images or sorted({*self.images}) != list(self.images) or self.images[0] < 1:
            raise ConfigError(f"images is {list(self.images)}; give one number or more, rising, each at least 1")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(ResumeBenchmark, "Time and memory of a rerun with nothing to do.", argv)
        measured = [_rerun(storage.normalize(config.input), count) for count in config.images]
    except PipelineError as error:
        print(f"resume: {error}", file=sys.stderr)
        return 1
    print(markdown(_HEADER, _table(measured)))
    return 0


def _rerun(base: str, count: int) -> Measured:
    prefix = storage.join(base, f"images-{count}")
    output = storage.join(base, f"done-{count}-{secrets.token_hex(4)}")
    put_objects(prefix, count)
    commit_rows(prefix, output)
    measured: Measured = apart(run_job, prefix, output)
    if measured.images != count:
        raise RunError(f"{measured.images} images are listed at {storage.redact(prefix)}, not {count}; empty it")
    return measured


def commit_rows(prefix: str, output: str) -> None:
    """Write an error row for each object below `prefix`, as a run of the job over them commits it."""
    note = dataset_info(check(RunConfig(input=Uri(prefix), output=Uri(output), model=Uri("scenes"))))
    failure = rows.failure("decode", ImageError("not an image"))
    entries = storage.list_files(prefix)
    files = 0
    while some := list(islice(entries, _ROWS_A_FILE)):
        done = [{"key": entry.key, "source": entry.uri, "version": entry.version} | failure for entry in some]
        write_files(output, f"{note.run_id}-{files:05d}.parquet", note, rows.table(done, FINISHED))
        files += 1


def _table(measured: Sequence[Measured]) -> list[list[str]]:
    cells = []
    for before, one in zip([None, *measured], measured, strict=False):
        more = (one.peak - before.peak) / (one.images - before.images) if before else None
        figures = (one.seconds, one.before / _MIB, (one.peak - one.before) / _MIB)
        cells.append([str(one.images), *map(number, figures), "" if more is None else number(more)])
    return cells


if __name__ == "__main__":
    sys.exit(main())
