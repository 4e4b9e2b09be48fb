"""Define an adapter: how a network of another framework is recognised and loaded."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import WeightsError
from pipeline.models.network import Network


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Say how networks of another framework come in.

    reads: what it reads, for people.
    example: what --model is given.
    place: where its weights lie, for people.
    extra: of this package, with which pip installs what it needs.
    package: what must be importable for that.
    recognises: tells whether a value of --model is for this adapter, without loading anything.
    load: gives the network in evaluation mode on the CPU. Raises WeightsError.
    """

    reads: str
    example: str
    place: str
    extra: str
    package: str
    recognises: Callable[[str], bool]
    load: Callable[[str], Network]

    @property
    def is_installed(self) -> bool:
        """Tell whether what it needs can be imported."""
        return importlib.util.find_spec(self.package) is not None

    def open(self, place: str) -> Network:
        """Load the network at a place that it recognises.

        Raises:
            WeightsError: the extra is not installed or broken, or the network cannot be used; the message says why.
        """
        if not self.is_installed:
            raise WeightsError(
                f"{place} is {self.reads}, for which {self.package} is not installed: "
                f"pip install 'deeplab-buckets[{self.extra}]'"
            )
        try:
            importlib.import_module(self.package)
        except Exception as error:  # such as a torchvision that was built for another torch
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"{self.package}, for {self.reads}, cannot be imported: {reason}") from error
        return self.load(place)
