"""Everything that can go wrong before the work starts, tried in seconds."""

from dataclasses import dataclass, replace
from typing import Any

from pipeline import masks, models, storage
from pipeline.batch.config import RefineConfig, RunConfig
from pipeline.batch.monitoring.cost import Prices, read_prices
from pipeline.data.source import Source, open_source
from pipeline.images import max_encoded_bytes
from pipeline.models import SegmentationModel
from pipeline.refine.crf import CRFParams, DenseCRF


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What was opened and loaded: input listed, output written to and read back, weights and prices read."""

    config: RunConfig
    source: Source
    model: SegmentationModel
    crf: DenseCRF | None
    prices: Prices | None = None


def check(config: RunConfig) -> Preflight:
    """Open the input, write to the output and load the model.

    Raises:
        PipelineError: whatever makes the run impossible.
    """
    config = config.resolved()
    source = replace(
        open_source(config.input, config.input_format, config.output),
        index="" if config.dry_run else storage.join(config.output, masks.INDEX_FOLDER),
        storage_timeout=config.storage_timeout,
        max_bytes=max_encoded_bytes(config.max_pixels),
    )
    if not config.dry_run:
        storage.probe_writable(config.output)
    model = models.load(config.model)
    config.inference.tiling(model)
    prices = read_prices(config.prices) if config.prices else None
    return Preflight(config=config, source=source, model=model, crf=chosen_crf(config.refine, model), prices=prices)


def chosen_crf(refine: RefineConfig, model: SegmentationModel) -> DenseCRF | None:
    """The CRF that was asked for, or that suits the model; None where there is to be none."""
    if refine.backend == "none":
        return None
    suited: dict[str, Any] = dict(model.card.crf)
    return DenseCRF(refine.params or CRFParams(**suited), refine.backend, refine.prune)
