"""What a run costs: the seconds that nodes of each type were there, times their prices."""

import reprlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import ray
import yaml

from pipeline import storage, text
from pipeline.errors import ConfigError
from pipeline.numbers import is_number

UNNAMED = "node"
"""Type of a node that neither KubeRay nor Ray's cluster launcher started."""

_GROUP = "ray.io/node-group"

Prices = Mapping[str, float]


def read_prices(uri: str) -> Prices:
    """Read the price of an hour by node type, from a YAML file such as `{head: 0.1, gpu: 0.75, cpu: 0.3}`.

    Raises:
        ConfigError: it is something else.
        StorageError: it cannot be read.
    """
    try:
        content = yaml.safe_load(text.decode(storage.read_bytes(uri), storage.redact(uri)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also of dates and numbers that YAML cannot hold
        raise ConfigError(f"prices: {storage.redact(uri)} is no YAML: {' '.join(str(error).split())}") from error
    prices = content if isinstance(content, dict) else {}
    wrong = [f"{name}: {reprlib.repr(price)}" for name, price in prices.items() if not _is_price(price)]
    if not prices or wrong:
        raise ConfigError(
            f"prices: {storage.redact(uri)} must map node types to prices an hour, such as `gpu: 0.75`; "
            f"it has {', '.join(wrong) or 'no such line'}"
        )
    return {str(name): float(price) for name, price in prices.items()}


def _is_price(value: Any) -> bool:
    return is_number(value) and value >= 0


class NodeClock:
    """Adds up how long nodes of each type are part of the cluster; to be updated now and then."""

    def __init__(self, types: Callable[[], list[str]], now: Callable[[], float] = time.monotonic) -> None:
        """Begin to count; `types` gives the type of every node that is there, see node_types."""
        self._types, self._now = types, now
        self._updated = now()
        self.seconds: dict[str, float] = {}
        self.most: Counter[str] = Counter()  # nodes of a type at once

    def update(self) -> None:
        """Count the time since the last update for the nodes that are there now."""
        now, types = self._now(), Counter(self._types())
        for name, nodes in types.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + nodes * (now - self._updated)
        self.most |= types
        self._updated = now


def node_types() -> list[str]:
    """Give the type of every node of the cluster that is alive: its worker group's name, or UNNAMED.

    Gives none before this process is connected to a cluster.
    """
    if not ray.is_initialized():
        return []
    return [node["Labels"].get(_GROUP) or UNNAMED for node in _nodes() if node["Alive"]]


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def costs(seconds: Mapping[str, float], prices: Prices) -> dict[str, float]:
    """Multiply node-seconds by prices, in the prices' currency; a type of node without a price is left out."""
    return {name: prices[name] * spent / 3600 for name, spent in seconds.items() if name in prices}
