"""The dense CRF in PyTorch operators: batches of pictures of one size, on a CUDA device, or on the CPU for its tests.

The energy, the mean field and the lattice are pydensecrf's. Whatever depends on the data is done when the lattices are
built; a mean-field update is a fixed sequence of operators that never waits for the device. benchmarks/gpu.py compares
the pipeline's own kernels with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.permutohedral_torch import Lattice, build_lattice
from pipeline.errors import CRFError
from pipeline.logits import grid_size
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.crf.reference import PROBABILITY_FLOOR


@dataclass(frozen=True, kw_only=True)
class TorchRefinement:
    """Hold the masks of N pictures of one size; the tensors are on the CRF's device.

    Attributes:
        masks: (N, H, W) uint8, the most probable label of each pixel.
        confidence: (N,) float32, mean over the pixels of the winning label's posterior.
        pixels: (N, C) int64, pixels won by each label.
        class_confidence: (N, C) float32, mean posterior of a label over the pixels it won; 0 where it won none.
        kept: labels that took part.
    """

    masks: Tensor
    confidence: Tensor
    pixels: Tensor
    class_confidence: Tensor
    kept: int


class TorchCRF:
    """Compute the fully connected CRF with Gaussian edge potentials (arXiv 1210.5644) on a torch device.

    The same input gives the same bits on one device, and a batch the same as its pictures one by one. Pictures are not
    tiled: N photographs of C labels take about N*H*W*(16*C + 500) bytes, and three times as much where they are noise.
    """

    def __init__(self, params: CRFParams, device: torch.device | str) -> None:
        """Choose the energy and the device."""
        self.params = params
        self.device = torch.device(device)
        self._smoothness: tuple[tuple[int, int], Lattice] | None = None  # of the last size

    @torch.inference_mode()
    def posterior(self, images: Tensor, probabilities: Tensor) -> Tensor:
        """Compute the posterior of every label at every pixel.

        Args:
            images: (N, H, W, 3) uint8 RGB, on any device.
            probabilities: (N, C, H, W) of any float type, on any device.

        Returns:
            (N, C, H, W) float32 on the CRF's device, summing to 1 over the labels.

        Raises:
            CRFError: wrong shape or type, a value that is not finite or is negative, or a lattice too large.
        """
        _check_images(images)
        _check_probabilities(probabilities, images)
        count, labels, height, width = probabilities.shape
        pixels = probabilities.to(self.device, torch.float32).permute(2, 3, 0, 1).contiguous()  # (H, W, N, C)
        q = self._infer(images.to(self.device), pixels.view(height * width, count, labels))
        return q.view(height, width, count, labels).permute(2, 3, 0, 1).contiguous()

    @torch.inference_mode()
    def refine(self, images: Tensor, logits: Tensor, stride: int, prune: float) -> TorchRefinement:
        """Upsample the logits, turn them into probabilities, refine them and take the best label, the first of equals.

        Args:
            images: (N, H, W, 3) uint8 RGB, on any device.
            logits: (N, C, h, w) float on any device, h x w = grid_size of H and W, C <= 256.
            stride: output stride of the logits, in pixels.
            prune: labels whose probability is below it at every pixel of every picture are left out of the CRF and win
                nowhere; 0 keeps all. The batch's most probable label always stays.

        Raises:
            CRFError: wrong shape or type, logits that are not finite, or a lattice too large.
        """
        _check_images(images)
        _check_logits(logits, images, stride)
        if not 0 <= prune <= 1:
            raise CRFError(f"prune is a probability, in [0, 1], not {prune}")
        count, height, width = images.shape[:3]
        labels = logits.shape[1]
        full = upsample(logits.to(self.device), height, width, stride)  # (H, W, N, C)
        probabilities = full.softmax(dim=-1).view(height * width, count, labels)
        peaks = probabilities.amax(dim=(0, 1))
        kept = (peaks >= peaks.max().clamp(max=prune)).nonzero()[:, 0]
        if len(kept) < labels:
            probabilities = probabilities.index_select(-1, kept)
        return _summary(self._infer(images.to(self.device), probabilities), kept, labels, (height, width))

    def kernels(self, images: Tensor) -> list[Lattice]:
        """Build the weighted, normalised kernels of images (N, H, W, 3) uint8 on the device, for mean_field_update.

        Raises:
            CRFError: the lattice would be too large.
        """
        params = self.params
        kernels = []
        if params.gaussian_weight > 0:
            size = (images.shape[1], images.shape[2])
            if self._smoothness is None or self._smoothness[0] != size:
                self._smoothness = (size, self._smoothness_kernel(images))
            kernels.append(self._smoothness[1])
        if params.bilateral_weight > 0:
            kernels.append(self._appearance_kernel(images))
        return kernels

    def _infer(self, images: Tensor, probabilities: Tensor) -> Tensor:
        """Compute the posterior from probabilities, both (H*W, N, C) float32 and contiguous."""
        log_p = probabilities.clamp(min=PROBABILITY_FLOOR).log()
        kernels = self.kernels(images)
        q = log_p.softmax(dim=-1)
        for _ in range(self.params.iterations):
            q = mean_field_update(log_p, kernels, q)
        return q

    def _smoothness_kernel(self, images: Tensor) -> Lattice:
        """Build one for all pictures: a pixel's labels in all of them are features of one point."""
        _, height, width, _ = images.shape
        xy = self.params.gaussian_xy
        lattice = build_lattice(_positions(images, xy), [(width - 1) / xy, (height - 1) / xy], height * width, 1)
        return _normalised(lattice, self.params.gaussian_weight, self.params.normalization)

    def _appearance_kernel(self, images: Tensor) -> Lattice:
        count, height, width, _ = images.shape
        xy, rgb = self.params.bilateral_xy, self.params.bilateral_rgb
        colours = images.permute(3, 1, 2, 0).reshape(3, -1)  # (3, H*W*N)
        positions = _positions(images, xy).repeat_interleave(count, dim=1)
        features = torch.cat([positions, _quotient(colours, rgb)])
        if height * width % 4:
            # pydensecrf fills up its last four pixels with zeros, and the vertices around these take part in the blurs
            features = torch.nn.functional.pad(features, (0, count))
        extents = [(width - 1) / xy, (height - 1) / xy, 255 / rgb, 255 / rgb, 255 / rgb]
        lattice = build_lattice(features, extents, height * width * count, count)
        return _normalised(lattice, self.params.bilateral_weight, self.params.normalization)


def mean_field_update(log_p: Tensor, kernels: Sequence[Lattice], q: Tensor) -> Tensor:
    """Update Q <- softmax(log p + sum_k w_k K_k Q), the Potts model; (H*W, N, C) float32, all of static shape.

    It reads nothing back and its operators do not depend on values, so it can be captured in a CUDA graph or compiled.
    """
    energy = log_p
    for kernel in kernels:
        energy = kernel.filter(q.view(kernel.points, -1)).view_as(q).add_(energy)
    return energy.softmax(dim=-1)


def upsample(logits: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Interpolate logits (N, C, h, w) to every pixel, (H, W, N, C) float32, with the geometry of pipeline.logits."""
    grid = logits.float().permute(2, 3, 0, 1)
    return _stretch(_stretch(grid, 1, width, stride), 0, height, stride)


def _stretch(grid: Tensor, dim: int, size: int, stride: int) -> Tensor:
    position = torch.arange(size, device=grid.device)
    before = position // stride
    after = (before + 1).clamp(max=grid.shape[dim] - 1)
    fraction = (position % stride / stride).view([-1 if axis == dim else 1 for axis in range(grid.dim())])
    return torch.lerp(grid.index_select(dim, before), grid.index_select(dim, after), fraction)


def _normalised(lattice: Lattice, weight: float, normalization: str) -> Lattice:
    """Scale a kernel by its weight, and divide out its row sums as CRFParams.normalization says."""
    rows = lattice.filter(torch.ones((lattice.points, 1), device=lattice.slice.columns.device))[:, 0] + 1e-20
    if normalization == "symmetric":
        scale = rows.rsqrt()
        return lattice.scaled(before=scale, after=weight * scale)
    return lattice.scaled(before=None, after=weight / rows)


def _positions(images: Tensor, sigma: float) -> Tensor:
    """List x and y of each pixel in standard deviations, (2, H*W) float32."""
    _, height, width, _ = images.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device), torch.arange(width, device=images.device), indexing="ij"
    )
    return _quotient(torch.stack([x, y]).view(2, -1), sigma)


def _quotient(values: Tensor, sigma: float) -> Tensor:
    """Divide in float32. CUDA multiplies by the inverse of a scalar, which rounds differently: hence a tensor."""
    return values.float() / torch.tensor(sigma, dtype=torch.float32, device=values.device)


def _summary(q: Tensor, kept: Tensor, labels: int, size: tuple[int, int]) -> TorchRefinement:
    """Summarise posteriors (H*W, N, K) of the labels `kept`, (K,) int64, of all `labels`."""
    winning, best = q.max(dim=-1)  # (H*W, N)
    won = best[..., None] == torch.arange(len(kept), device=q.device)  # (H*W, N, K)
    count = won.sum(dim=0)  # (N, K)
    total = torch.where(won, q, 0).sum(dim=0, dtype=torch.float64)
    pixels = count.new_zeros((len(count), labels)).index_copy_(1, kept, count)
    mean = (total / count.clamp(min=1)).float()
    return TorchRefinement(
        masks=kept[best].to(torch.uint8).T.reshape(-1, *size).contiguous(),
        confidence=winning.mean(dim=0, dtype=torch.float64).float(),
        pixels=pixels,
        class_confidence=mean.new_zeros((len(count), labels)).index_copy_(1, kept, mean),
        kept=len(kept),
    )


def _check_images(images: Tensor) -> None:
    if images.dim() != 4 or images.shape[3] != 3 or images.dtype != torch.uint8 or images.numel() == 0:
        raise CRFError(f"the CRF takes images (N, H, W, 3) uint8, not {tuple(images.shape)} {images.dtype}")


def _check_probabilities(probabilities: Tensor, images: Tensor) -> None:
    shape = tuple(probabilities.shape)
    if len(shape) != 4 or shape[1] == 0 or not probabilities.dtype.is_floating_point:
        raise CRFError(f"the CRF takes probabilities (N, C, H, W) float, not {shape} {probabilities.dtype}")
    if (shape[0], *shape[2:]) != tuple(images.shape[:3]):
        raise CRFError(
            f"probabilities are {shape} (N, C, H, W), the images {tuple(images.shape)} (N, H, W, 3); sizes must agree"
        )
    bad = ~(probabilities.isfinite() & (probabilities >= 0))
    if bad.any():
        image, label, row, column = bad.nonzero()[0].tolist()
        raise CRFError(
            f"the probability of label {label} at row {row}, column {column} of image {image} of the batch is "
            f"{probabilities[image, label, row, column].item()}; "
            f"{int(bad.sum())} of {bad.numel()} values are not finite or are negative"
        )


def _check_logits(logits: Tensor, images: Tensor, stride: int) -> None:
    count, height, width, _ = images.shape
    grid = (grid_size(height, stride), grid_size(width, stride))
    shape = tuple(logits.shape)
    if len(shape) != 4 or (shape[0], *shape[2:]) != (count, *grid) or not 1 <= shape[1] <= 256:
        raise CRFError(
            f"{count} images of {height}x{width} at stride {stride} take logits ({count}, C, {grid[0]}, {grid[1]}) of "
            f"1 to 256 labels, not {shape}"
        )
    if not logits.dtype.is_floating_point:
        raise CRFError(f"the CRF takes logits of a float type, not {logits.dtype}")
    bad = ~logits.isfinite()
    if bad.any():
        image, label, row, column = bad.nonzero()[0].tolist()
        raise CRFError(
            f"the logit of label {label} at grid row {row}, column {column} of image {image} of the batch is "
            f"{logits[image, label, row, column].item()}; the network's output must be finite"
        )
