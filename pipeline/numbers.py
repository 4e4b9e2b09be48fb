"""Numbers in configurations and model cards: finite, and not text that looks like one."""

import math
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from pipeline.errors import ConfigError


def is_number(value: object) -> bool:
    """Tell whether a value is an int or a float, that a float can hold and is not NaN; a bool is no number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_finite(config: Any, prefix: str = "") -> None:
    """Raise ConfigError for a NaN or an infinity in a field of a dataclass, which its message calls PREFIX + name."""
    for field in fields(config):
        value = getattr(config, field.name)
        if not all(map(math.isfinite, _floats(value))):
            raise ConfigError(f"{prefix}{field.name} is {value}; give a finite number")


def _floats(value: object) -> Iterator[float]:
    """Give the floats of a value: itself, or those of a tuple."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, float):
            yield item
