"""A storage that does not answer is waited for, and is never taken for a missing or a damaged file."""

import json
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import botocore.exceptions
import pyarrow as pa
import pytest
from s3fs.errors import translate_boto_error

from pipeline import masks, storage
from pipeline.batch.manifest import Chunk, Ids, Manifest, read_chunk
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import write_files
from pipeline.commands.segment import command as segment
from pipeline.data import rows
from pipeline.data.formats.format import Pair
from pipeline.data.labelled import list_pairs
from pipeline.data.labelled.pairs import Labels, fetch
from pipeline.errors import StorageError, WeightsError
from pipeline.storage import outages
from pipeline.storage.access import explained
from pipeline.storage.outages import is_outage, retry_seconds, with_retries
from tests.helpers.dataset import finished_row, info
from tests.helpers.pictures import jpeg, photo
from tests.helpers.s3_proxy import Fault, S3Proxy
from tests.helpers.servers import new_bucket
from tests.helpers.shards import parquet_bytes, tar_bytes

ENCODED = pa.table({"key": ["a", "b"], "image": [b"x" * 5000, b"y" * 5000], "mask": [b"z", b"z"]})


def chunk(bucket: str) -> Any:
    return read_chunk(f"{bucket}/manifest", Chunk(0, 0, 1)).column("key").to_pylist()


def masked(bucket: str) -> Any:
    return [key for key, _ in masks.read(f"{bucket}/out")]


def recounted(bucket: str) -> Any:
    return masks.verify(f"{bucket}/out")


def table_pairs(bucket: str) -> Any:
    return list_pairs(f"{bucket}/tables", "parquet", "train")


def tar_pairs(bucket: str) -> Any:
    return list_pairs(f"{bucket}/tars", "webdataset", "train")


def fetched_pairs(bucket: str) -> Any:
    return fetch([PAIRS[bucket]], Labels(classes=("one",))).to_pylist()


READERS = (chunk, masked, recounted, table_pairs, tar_pairs, fetched_pairs)
PAIRS: dict[str, Pair] = {}
"""One for each bucket, listed while its storage answered."""


def fill(bucket: str) -> None:
    manifest = Manifest(f"{bucket}/manifest")
    manifest.write([Ids(rows.table([{"key": "a"}], rows.MANIFEST))])
    manifest.close()
    note = info(run_id="run1")
    one = finished_row("a") | {"classes": [{"id": i, "name": "", "pixels": 3 - i, "confidence": 1.0} for i in range(3)]}
    write_files(f"{bucket}/out", "run1-00000.parquet", note, rows.table([one], FINISHED))
    said = {"listed": 1, "skipped": 0, "segmented": 1, "failed": 0}
    storage.put_whole(f"{bucket}/out/_runs/run1/summary.json", json.dumps(said).encode())
    storage.put_whole(f"{bucket}/tables/train.parquet", parquet_bytes(ENCODED, 1))
    PAIRS[bucket] = list_pairs(f"{bucket}/tables", "parquet", "train")[0]
    storage.put_whole(f"{bucket}/tars/train.tar", tar_bytes({"a.jpg": b"x", "a.mask.png": b"y"}))


@pytest.mark.parametrize(
    ("read", "fault"), [*((read, "refuse") for read in READERS), (chunk, "drop"), (masked, "drop")]
)
def test_an_outage_costs_a_reader_time_and_nothing_else(
    proxy: S3Proxy, read: Callable[[str], Any], fault: Fault
) -> None:
    bucket = new_bucket()
    fill(bucket)
    expected = read(bucket)
    assert expected
    proxy.fault = fault
    with pytest.raises(StorageError) as failed:
        read(bucket)
    assert is_outage(failed.value), failed.value
    threading.Timer(1, setattr, (proxy, "fault", "none")).start()
    with storage.retrying(60):
        assert read(bucket) == expected


@pytest.mark.parametrize("fault", ["refuse", "drop", "refuse-writes"])
def test_an_outage_before_the_work_is_worth_another_try(
    proxy: S3Proxy, fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, after which a nightly runs again, and not 2, which says that nothing would help."""
    bucket = new_bucket()
    storage.put_whole(f"{bucket}/in/a.jpg", jpeg(photo(0)))
    proxy.fault = fault
    flags = [f"--input={bucket}/in", f"--output={bucket}/out", "--model=scenes"]
    assert segment.main(flags) == 1
    assert capsys.readouterr().err.startswith("segment: cannot ")
    proxy.fault = "none"
    assert segment.main([*flags, "--input=s3://nobody-has-this/in"]) == 2


def test_an_error_that_an_outage_has_caused_is_one() -> None:
    with pytest.raises(WeightsError) as failed:
        try:
            with explained("s3://bucket/card.json", "read"):
                raise ConnectionResetError
        except StorageError as error:
            raise WeightsError("the card is not known") from error
    assert is_outage(failed.value)
    assert not is_outage(WeightsError("the card is not known"))


def test_an_outage_is_waited_out_once() -> None:
    """What is asked once a call has given up is tried once; any answer, even a bad one, ends the outage."""
    tries = []

    def silent() -> None:
        tries.append(1)
        raise ConnectionError

    def tried() -> int:
        tries.clear()
        with pytest.raises(ConnectionError):
            with_retries(silent)
        return len(tries)

    def missing() -> None:
        raise FileNotFoundError

    with storage.retrying(1.8):
        with_retries(lambda: "answer")
        assert tried() > 1
        assert tried() == 1
        assert with_retries(lambda: "answer") == "answer"
        assert tried() > 1
        assert tried() == 1
        with pytest.raises(FileNotFoundError):
            with_retries(missing)
        assert tried() > 1


def test_an_outage_may_end_for_another_thread_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here whenever the clock is read: while one thread makes up its mind about a failure, another has its answer."""
    here = threading.get_ident()

    def read_clock() -> float:
        if threading.get_ident() == here:
            other = threading.Thread(target=with_retries, args=(lambda: "answer",))
            other.start()
            other.join()
        return time.monotonic()

    monkeypatch.setattr(outages, "time", SimpleNamespace(monotonic=read_clock, sleep=lambda _: None))
    failures = [ConnectionError(), ConnectionError()]

    def ask() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    with storage.retrying(60):
        assert with_retries(ask) == "answer"


@pytest.mark.parametrize(
    ("status", "code", "outage"),
    [
        *((status, "", True) for status in (429, 500, 502, 503)),
        *((status, "", False) for status in (400, 403, 404, 412)),
        *(
            (503, code, True)
            for code in ("InternalError", "ServiceUnavailable", "SlowDown", "XMinioServerNotInitialized")
        ),
        *((403, code, False) for code in ("AccessDenied", "InvalidObjectState")),
        *((400, code, False) for code in ("KMS.DisabledException", "InvalidRequest", "NobodyKnows")),
        *((400, code, True) for code in ("RequestTimeout", "ThrottlingException")),
    ],
)
def test_what_a_server_says_is_told_apart(status: int, code: str, outage: bool) -> None:
    """By its status: s3fs has one error for all the codes that it does not know."""
    answer = {"Error": {"Code": code or str(status), "Message": "so"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    said = botocore.exceptions.ClientError(answer, "GetObject")
    assert is_outage(translate_boto_error(said)) == outage


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What gcsfs and adlfs raise, under the names that it has there: neither is installed."""

    class HttpError(Exception):
        def __init__(self, code: int, message: str) -> None:
            super().__init__(message)
            self.code, self.message = code, message

    class AzureError(Exception):
        message = ""

    class HttpResponseError(AzureError):
        def __init__(self, status_code: int, message: str) -> None:
            super().__init__(message)
            self.status_code, self.message = status_code, message

    class ServiceRequestError(AzureError):
        pass

    class ServiceResponseError(AzureError):
        pass

    azure = SimpleNamespace(**{kind.__name__: kind for kind in AzureError.__subclasses__()}, AzureError=AzureError)
    modules = {"gcsfs.retry": SimpleNamespace(HttpError=HttpError), "azure.core.exceptions": azure}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(HttpError=HttpError, **vars(azure))


@pytest.mark.parametrize(
    ("kind", "said", "outage"),
    [
        *((kind, (status, "so\nit is"), True) for kind in ("HttpError", "HttpResponseError") for status in (429, 503)),
        *((kind, (status, "so\nit is"), False) for kind in ("HttpError", "HttpResponseError") for status in (400, 401)),
        *((kind, ("so it is",), True) for kind in ("ServiceRequestError", "ServiceResponseError")),
        ("AzureError", ("so it is",), False),
    ],
)
def test_other_object_stores_are_waited_for_too(
    clients: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, kind: str, said: tuple[Any, ...], outage: bool
) -> None:
    storage.put_whole("memory://others/a.jpg", b"x")
    fs, _ = storage.filesystem("memory://others")
    cat_file, failures = fs.cat_file, [getattr(clients, kind)(*said)] * 2

    def failing(*args: Any, **options: Any) -> bytes:
        if failures:
            raise failures.pop()
        return bytes(cat_file(*args, **options))

    monkeypatch.setattr(fs, "cat_file", failing)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(StorageError, match=r"cannot read memory://others/a\.jpg: .*so it is") as failed:
        storage.read_bytes("memory://others/a.jpg")
    assert is_outage(failed.value) == outage
    with storage.retrying(60):
        if outage:
            assert storage.read_bytes("memory://others/a.jpg") == b"x"
        elif len(said) == 2:
            [refused] = storage.read_ranges("memory://others", ["a.jpg"], [None], [None])
            assert "the server answers" in str(refused)


def test_threads_may_end_their_retries_in_any_order() -> None:
    first, second = storage.retrying(3), storage.retrying(7)
    first.__enter__()
    second.__enter__()
    assert retry_seconds() == 7
    first.__exit__(None, None, None)
    assert retry_seconds() == 7
    second.__exit__(None, None, None)
    assert retry_seconds() == 0
