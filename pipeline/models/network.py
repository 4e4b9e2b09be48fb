"""Define what the jobs need of a network, whichever framework it comes from."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.geometry import Geometry
from pipeline.models.card import Card
from pipeline.models.preprocessing import Image, preprocess


class Network(nn.Module):
    """Map preprocessed pictures to logits on a grid, with the card that travels with the weights.

    A subclass says where the grid lies, which sizes it takes, what its outputs are matched by, and computes `grid`.
    It is pickled on its way to the processes that use it.

    adapter: what runs it; "none" where it is a network of this project's own.
    compiles: whether torch.compile can make its `grid` faster.
    normalised: layers of its framework, by the name of their class, that put a convolution's results through a batch
        normalisation and use them for nothing else: the names of both, for prediction folds them.
    """

    adapter = "none"
    compiles = True
    normalised: ClassVar[Mapping[str, Sequence[tuple[str, str]]]] = {}

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    @property
    @abstractmethod
    def network(self) -> str:
        """Name what computes the logits, for people."""

    @property
    @abstractmethod
    def geometry(self) -> Geometry:
        """Return where the logits lie in the picture, and what the picture is resized to before."""

    @property
    @abstractmethod
    def step(self) -> int:
        """Return the step of the sizes that `forward` takes, in pixels: `geometry.valid_size` with this step."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Compute the hex sha256 of all that decides the logits; outputs are matched by it."""

    @abstractmethod
    def grid(self, batch: Tensor) -> Tensor:
        """Compute the logits of preprocessed pictures (N, 3, H, W) of a size that it takes: (N, C, h, w)."""

    def forward(self, batch: Tensor) -> Tensor:
        """Compute `grid`."""
        return self.grid(batch)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names by class index."""
        return self.card.classes

    @property
    def palette(self) -> NDArray[np.uint8]:
        """Return the colours by class index: (classes, 3) uint8 RGB."""
        return np.array(self.card.palette, np.uint8)

    def preprocess(self, image: Image) -> Tensor:
        """Scale a picture as the weights expect: (H, W, 3) uint8 RGB -> (3, H, W) float32 in their channel order.

        Raises:
            ModelError: `image` is of another shape or dtype.
        """
        return preprocess(image, self.card.preprocessing)
