"""Everything that can go wrong before the work starts, tried in seconds."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline import masks, models, storage
from pipeline.batch.config import RunConfig
from pipeline.batch.monitoring.cost import Prices, read_prices
from pipeline.batch.only_keys import OnlyKeys, read_keys
from pipeline.data.source import Source, open_source
from pipeline.errors import ConfigError
from pipeline.images import max_encoded_bytes
from pipeline.refine import Refiner, make_refiner
from pipeline.runtime.progress import say

if TYPE_CHECKING:
    from pipeline.models import Network  # torch, which takes seconds to load


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What was opened and loaded: input listed, output written to and read back, weights, keys and prices read."""

    config: RunConfig
    source: Source
    model: "Network"
    refiner: Refiner
    only: OnlyKeys | None = None
    prices: Prices | None = None


def check(config: RunConfig) -> Preflight:
    """Open the input, write to the output and load the model.

    Raises:
        PipelineError: whatever makes the run impossible.
    """
    if config.model is None:
        raise ConfigError(
            f"a run names its model: give --model one of these, or weights of yours:\n{models.overview()}"
        )
    name, config = config.model, config.resolved()
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
    model = models.load(name, config.classes, config.smp)
    config.inference.tiling(model)
    prices = read_prices(config.prices) if config.prices else None
    refiner = make_refiner(config.refine, model.card.crf, len(model.classes))
    return Preflight(config=config, source=source, model=model, refiner=refiner, only=only, prices=prices)
