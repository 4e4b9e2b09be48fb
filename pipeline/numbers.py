"""Numbers in configurations and model cards: finite, and not text that looks like one."""

import math
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from pipeline.errors import ConfigError

_LARGEST = 2**53  # so that bytes and pixels of so many still are 64-bit numbers


def is_number(value: object) -> bool:
    """Tell whether a value is an int or a float, that a float can hold and is not NaN; a bool is no number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_numbers(config: Any, prefix: str = "") -> None:
    """Raise ConfigError for a number in a dataclass, or in one in its fields, that nothing can be counted with.

    That is a NaN, an infinity, and a whole number beyond 2^53. Messages call a field PREFIX + name.
    """
    for field in fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if is_dataclass(value):
            check_numbers(value, f"{name}.")
        for number in _numbers(value):
            if isinstance(number, int) and abs(number) > _LARGEST:
                raise ConfigError(f"{name} is beyond 2^53; give a smaller number")
            if not math.isfinite(number):
                raise ConfigError(f"{name} is {value}; give a finite number")


def _numbers(value: object) -> Iterator[float]:
    """Give the numbers of a value: itself, or those of a tuple."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, int | float):
            yield item
