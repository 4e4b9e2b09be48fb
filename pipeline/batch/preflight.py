"""Everything that can go wrong before the work starts, tried in seconds."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from pipeline import masks, models, storage
from pipeline.batch import known_models
from pipeline.batch.config import RunConfig
from pipeline.batch.monitoring.cost import Prices, read_prices
from pipeline.batch.only_keys import OnlyKeys, read_keys
from pipeline.data.source import Source, open_source
from pipeline.errors import ConfigError, WeightsError
from pipeline.images import max_encoded_bytes
from pipeline.models.facts import ModelFacts
from pipeline.refine import Refiner, make_refiner
from pipeline.runtime.connection import connect_ahead
from pipeline.runtime.progress import say

if TYPE_CHECKING:
    from pipeline.models import Network  # torch, which takes seconds to load


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What was opened and loaded: input listed, output written to and read back, weights, keys and prices read.

    Attributes:
        facts: on the model; from the output, where an earlier run has left them, and its weights were not read.
        facts_place: where they are to be kept; None where they are, or cannot be.
        load: loads the network, once.
    """

    config: RunConfig
    source: Source
    facts: ModelFacts
    facts_place: str | None
    load: "Callable[[], Network]"
    refiner: Refiner
    only: OnlyKeys | None = None
    prices: Prices | None = None


def check(config: RunConfig) -> Preflight:
    """Open the input, write to the output and load the model, unless an earlier run has left the facts on it.

    Raises:
        PipelineError: whatever makes the run impossible.
    """
    if config.model is None:
        raise ConfigError(
            f"a run names its model: give --model one of these, or weights of yours:\n{models.overview()}"
        )
    config = config.resolved()
    opened = open_source(config.input, config.input_format, config.output, config.columns)
    only = read_keys(config.only_keys) if config.only_keys else None
    source = replace(
        opened.limited(max_encoded_bytes(config.max_pixels)),
        index="" if config.dry_run else storage.join(config.output, masks.INDEX_FOLDER),
    )
    for line in source.reading:
        say(line)
    if not config.dry_run:
        storage.probe_writable(config.output)
    place = known_models.place(config)
    known = known_models.recall(place) if place else None
    is_first = place and not known and not storage.exists(storage.join(config.output, masks.MASKS_FOLDER))
    if is_first and not config.dry_run:
        connect_ahead()  # there will be work
    load = cache(partial(_load, config, known))
    facts = known or ModelFacts.of(load())
    return Preflight(
        config=config,
        source=source,
        facts=facts,
        facts_place=None if known else place,
        load=load,
        refiner=make_refiner(config.refine, facts.crf, len(facts.classes)),
        only=only,
        prices=read_prices(config.prices) if config.prices else None,
    )


def _load(config: RunConfig, known: ModelFacts | None) -> "Network":
    """Load the model that a configuration names, whose inference settings must go with it.

    Raises:
        WeightsError: it is another than was `known` when the run began.
        PipelineError: as `check` does.
    """
    model = models.load(str(config.model), config.classes, config.smp)
    config.inference.tiling(model)
    if known and model.digest != known.digest:
        raise WeightsError(
            f"{storage.redact(str(config.model))} is not what it was when the run began; run the same command again"
        )
    return model
