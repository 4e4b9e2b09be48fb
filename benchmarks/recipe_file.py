"""Reading a training's YAML file where jsonargparse is not installed, with the meaning that jobs/train.py gives it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any, get_args

import yaml

from pipeline import storage, text
from pipeline.data.labelled import Layout
from pipeline.errors import ConfigError
from pipeline.storage import Uri
from pipeline.training.config import TrainConfig
from pipeline.training.recipe import Recipe

_PLAIN = (bool, int, float)


def read_config(path: str, flags: Mapping[str, str | None]) -> TrainConfig:
    """Read the file at `path`, with the flags that are not None in place of what it says.

    Raises:
        ConfigError: the file is no configuration of a training, or a value is none that a training can have.
        StorageError: the file cannot be read.
    """
    uri = storage.normalize(path)
    try:
        settings = _named(yaml.safe_load(text.decode(storage.read_bytes(uri), path)))
        settings |= {name: value for name, value in flags.items() if value is not None}
        if settings.get("validation_split") == "null":
            settings["validation_split"] = None
        recipe = Recipe(**_typed(Recipe, _named(settings.pop("recipe", {})), "recipe."))
        places = {name: Uri(settings[name]) for name in ("data", "output")}
        config = TrainConfig(**_typed(TrainConfig, settings) | places, recipe=recipe).resolved()
    except (yaml.YAMLError, TypeError, ValueError, LookupError, RecursionError) as error:
        raise ConfigError(f"{path} is no configuration of a training: {' '.join(str(error).split())}") from error
    if config.data_format not in get_args(Layout):
        raise ConfigError(f"data_format is {config.data_format!r}; choose from: {', '.join(get_args(Layout))}")
    return config


def _named(settings: object) -> dict[str, Any]:
    """Give settings by their names, with underscores. Raises TypeError for anything else, such as an empty file."""
    if not isinstance(settings, dict):
        raise TypeError(f"{settings!r} stands where there should be settings, NAME: VALUE")
    return {str(name).replace("-", "_"): value for name, value in settings.items()}


def _typed(config: type, settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give lists as tuples, and as floats what YAML reads as text, such as 1e-3. Raises TypeError for another type."""
    types = {field.name: field.type for field in fields(config)}
    typed = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    for name, value in typed.items():
        wanted = types.get(name)
        if wanted is float and isinstance(value, int | str) and not isinstance(value, bool):
            with suppress(ValueError):
                value = typed[name] = float(value)
        if wanted in _PLAIN and type(value) is not wanted:
            raise TypeError(f"{prefix}{name} is {value!r}; give a value of the type {wanted.__name__}")
    return typed
