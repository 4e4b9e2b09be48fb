"""Objects of several storages at once: what is wrong with one is told of that one, what is wrong with all is raised."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import botocore.exceptions
import fsspec
import pytest

from pipeline import storage
from pipeline.data.source import open_source
from pipeline.errors import StorageError
from pipeline.storage import anywhere, outages


@pytest.fixture
def without_credentials(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of an object that is there, for a client that finds no credentials."""
    storage.put_whole(f"{bucket}/a.jpg", b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield f"{bucket}/a.jpg"
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_without_credentials_no_image_fails_by_itself(without_credentials: str, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"y")
    with pytest.raises(StorageError, match="no credentials; set AWS_ACCESS_KEY_ID") as failed:
        storage.read_anywhere([f"{tmp_path}/b.jpg", without_credentials], 10)
    assert storage.store_fails(without_credentials, failed.value)


class ClientAuthenticationError(Exception):
    """As Azure's client raises it: with a status where the server has answered, and without where nobody was asked."""

    def __init__(self, status_code: int | None) -> None:
        super().__init__("so it is")
        self.status_code, self.message = status_code, "so it is"


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ClientAuthenticationError
    names = {"AzureError": kind, "HttpResponseError": kind, "ClientAuthenticationError": kind}
    monkeypatch.setitem(sys.modules, "azure.core.exceptions", SimpleNamespace(**names))


@pytest.mark.parametrize(
    ("error", "of_all"),
    [
        (botocore.exceptions.CredentialRetrievalError(provider="p", error_msg="so it is"), True),
        (botocore.exceptions.MetadataRetrievalError(error_msg="so it is"), True),
        (botocore.exceptions.UnauthorizedSSOTokenError(), True),
        (ClientAuthenticationError(None), True),
        (ClientAuthenticationError(403), False),
        (botocore.exceptions.ParamValidationError(report="so it is"), False),  # of a bucket's name that cannot be
        (ValueError("so it is"), False),
    ],
)
@pytest.mark.parametrize("opening", [True, False])
def test_what_is_of_the_credentials_is_of_all(
    azure: None, monkeypatch: pytest.MonkeyPatch, error: Exception, of_all: bool, opening: bool
) -> None:
    storage.put_whole("memory://others/a.jpg", b"x")
    fs, _ = storage.filesystem("memory://others")

    def failing(*_: object, **__: object) -> None:
        raise error

    if opening:
        monkeypatch.setattr(fsspec.core, "url_to_fs", failing)
    else:
        monkeypatch.setattr(fs, "cat_file", failing)
    if of_all:
        with pytest.raises(StorageError, match=r"memory://others/a\.jpg"):
            storage.read_anywhere(["memory://others/a.jpg"], 10)
    else:
        [refused] = storage.read_anywhere(["memory://others/a.jpg"], 10)
        assert isinstance(refused, StorageError)


@pytest.mark.parametrize("start", ["", "file://"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, start: str) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "a.jpg").write_bytes(b"x")
    names = [f"{start}{tmp_path}/{name}" for name in ("pipe.jpg", "a.jpg", "gone.jpg")] + [f"{start}/dev/zero"]
    pipe, whole, gone, device = storage.read_anywhere(names, 10)
    assert whole == b"x"
    assert "pipe.jpg: it is a pipe, a device or a socket" in str(pipe)
    assert "/dev/zero: it is a pipe, a device or a socket" in str(device)
    assert "there is no such" in str(gone)
    with pytest.raises(StorageError, match=r"nothing is listed at .*1 special file"):
        open_source(names[0], "auto")


def test_a_web_server_that_takes_a_connection_and_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "READ_SECONDS", 0.2)
    monkeypatch.setattr(anywhere, "_WEB_PAUSES", (0.0,))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        [refused] = storage.read_anywhere([f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg"], 10)
    assert isinstance(refused, StorageError)
    assert outages.is_outage(refused)
