"""Average a network's weights over the steps of its training; the mean labels better than what still moves."""

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn


class WeightAverage:
    """Keep the exponential moving average of a network's weights, and of batch normalisation's running statistics.

    After n steps the next keeps min(decay, (1 + n) / (10 + n)) of the average, as TensorFlow's
    ExponentialMovingAverage does with a count of updates: what the network began with is soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with the weights that `network` has; with a decay of 0 no average is kept, and nothing is done."""
        self._network = network
        self._decay = decay
        self._mean = _copied(network) if decay else {}

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Return the averages, by their names in the network; none where no average is kept."""
        return self._mean

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` was."""
        for name, mean in self._mean.items():
            mean.copy_(state[name])

    def update(self, steps: int) -> None:
        """Take in the network's weights, before which `steps` steps have been taken in."""
        kept = min(self._decay, (1 + steps) / (10 + steps))
        values = self._network.state_dict()
        for name, mean in self._mean.items():
            if mean.is_floating_point():
                mean.lerp_(values[name], 1 - kept)
            else:
                mean.copy_(values[name])  # batch normalisation's count of batches

    def put(self) -> None:
        """Give the network the averages."""
        self._network.load_state_dict(self._mean, strict=bool(self._mean))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the network the averages, and afterwards its own weights again."""
        own = _copied(self._network) if self._mean else {}
        self.put()
        try:
            yield
        finally:
            self._network.load_state_dict(own, strict=bool(own))


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
