"""The lattices of the smoothness kernel, which depend on a window's size alone: pictures of one size share them."""

from collections import OrderedDict

import torch
from torch import Tensor

from pipeline.refine.crf.cuda.lattice import Kernel, Lattice, LatticeBuilder

KEPT_PIXELS = 2**22
"""Pixels of the sizes whose lattices are kept: with a standard deviation of a pixel, 1 GiB."""


class Smoothness:
    """Keep the lattices of the sizes that were used last."""

    def __init__(self, kernel: Kernel, device: torch.device) -> None:
        """Choose the kernel, one of the positions alone, and the device."""
        self._builder = LatticeBuilder(kernel, device)
        self._lattices: OrderedDict[tuple[int, ...], Lattice] = OrderedDict()

    def lattice(self, image: Tensor) -> Lattice:
        """Give the lattice for an image (H, W, 3) of any content.

        Raises:
            CRFError: it would be too large.
        """
        size = tuple(image.shape[:2])
        if size in self._lattices:
            self._lattices.move_to_end(size)
        else:
            self._lattices[size] = self._builder.build(image)
        while len(self._lattices) > 1 and sum(height * width for height, width in self._lattices) > KEPT_PIXELS:
            self._lattices.popitem(last=False)
        return self._lattices[size]
