"""jobs/segment_bucket.py in this process, on the Ray instance that the tests share."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.commands.segment import command as segment_bucket


def run_job(*flags: str) -> tuple[int, str, str]:
    """Run the job, with the model `scenes` where the flags name no other; returns exit code, stdout and stderr."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            code = segment_bucket.main(["--model=scenes", *flags])
        except SystemExit as end:  # as argparse ends
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def last_line(out: str) -> dict[str, Any]:
    """Parse the summary at the end of a job's stdout."""
    summary: dict[str, Any] = json.loads(out.splitlines()[-1])
    return summary


def summary(*flags: str) -> dict[str, Any]:
    """Run the job, which must end well; returns its summary."""
    code, out, err = run_job(*flags)
    assert code == 0, err
    return last_line(out)


def rows(output: str, folder: str) -> list[dict[str, Any]]:
    """Read all rows of an output's masks or errors."""
    files = [storage.read_bytes(entry.uri) for entry in storage.list_files(f"{output}/{folder}")]
    table: list[dict[str, Any]] = pa.concat_tables(pq.read_table(io.BytesIO(data)) for data in files).to_pylist()
    return table
