"""Configure a run: the flags of `deeplab-buckets segment` and the fields of its YAML are these dataclasses."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline import storage
from pipeline.batch.error_budget import ErrorBudget
from pipeline.data.formats import ColumnNames, InputFormat
from pipeline.data.formats.column_flags import ColumnFlags
from pipeline.errors import ConfigError
from pipeline.images import DEFAULT_MAX_PIXELS
from pipeline.models.inference import Inference
from pipeline.models.smp_config import SmpConfig
from pipeline.refine import RefineConfig
from pipeline.runtime.plan import WorkerLimits
from pipeline.storage import StorageConfig, Uri


@dataclass(frozen=True, kw_only=True)
class RunConfig(StorageConfig, ColumnFlags):
    """Segment every image of a bucket.

    Args:
        input: folder, prefix, glob or file of images, WebDataset tars or Parquet with encoded images; a path or URI.
        output: folder or prefix for masks/, errors/ and _runs/; a run continues what is there.
        model: a built-in name, a name of the zoo, or the path or URI of a weights file; without it the job says what
            there is.
        classes: names by class id, in place of those of the weights.
        input_format: the one format that is read; auto reads all but lists, told apart by their names.
        carry: of a list: a column, or several as [a,b], that go into masks/ as they are there.
        only_keys: file of keys (Parquet, CSV or text): do these images of the input, also those that are done.
        limit: take only the first N images of the listing.
        error_budget: share of failed images, 0 to 1, above which the exit code is 3; a run stops early where its
            failures exceed it of all that is to do, once all is listed.
        max_pixels: refuse images with more pixels (width * height).
        confidence_map: write how sure each pixel is, as a grey PNG, into the column confidence_map of masks/.
        commit_seconds: write finished masks at least this often, in seconds.
        compact: keep what is finished early out of masks/ until it fills a large file, or the run ends.
        retry_errors: do only what has its row in errors/, again; what has failed by its listing alone is left.
        dry_run: say what would be done, and write nothing.
        prices: YAML file with the price of an hour by node type, for the summary's cost.
        inference: how the network is run.
        refine: how its logits are refined.
        smp: what a state dict of segmentation_models_pytorch is of.
        workers: what the run may use of its cluster.
    """

    input: Uri
    output: Uri
    model: Uri | None = None
    classes: tuple[str, ...] | None = None
    input_format: InputFormat = "auto"
    carry: tuple[str, ...] | str = ()
    only_keys: Uri | None = None
    limit: int | None = None
    error_budget: float = 0.01
    max_pixels: int = DEFAULT_MAX_PIXELS
    confidence_map: bool = False
    commit_seconds: float = 180.0
    compact: bool = False
    retry_errors: bool = False
    dry_run: bool = False
    prices: Uri | None = None
    inference: Inference = field(default_factory=Inference)
    refine: RefineConfig = field(default_factory=RefineConfig)
    smp: SmpConfig = field(default_factory=SmpConfig)
    workers: WorkerLimits = field(default_factory=WorkerLimits)

    def __post_init__(self) -> None:
        """Raise ConfigError for a value no run can have."""
        super().__post_init__()
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}; give the number of images to take, at least 1, or leave it out")
        if self.carry and self.input_format != "list":
            raise ConfigError("carry names columns of a list; give one with --input-format list, or leave it out")
        _ = self.budget
        if self.max_pixels < 1:
            raise ConfigError(f"max_pixels is {self.max_pixels}; it must be at least 1")
        if self.commit_seconds <= 0:
            raise ConfigError(f"commit_seconds is {self.commit_seconds}; it must be above 0")

    @property
    def budget(self) -> ErrorBudget:
        """Give the error budget. Raises ConfigError for what is no share."""
        return ErrorBudget(share=self.error_budget)

    @property
    def columns(self) -> ColumnNames:
        """Give the columns that are chosen."""
        return replace(super().columns, carry=(self.carry,) if isinstance(self.carry, str) else tuple(self.carry))

    def resolved(self) -> "RunConfig":
        """Give the same run with paths that mean the same on every machine."""
        return replace(self, input=Uri(storage.normalize(self.input)), output=Uri(storage.normalize(self.output)))

    def redacted(self) -> dict[str, Any]:
        """Give the run as plain values, fit to be written down: no URI in it holds a credential."""
        named = {name: getattr(self, name) for name in ("input", "output", "model", "only_keys", "prices")}
        uris = {name: storage.redact(uri) for name, uri in named.items() if uri is not None}
        return json.loads(json.dumps(asdict(self) | uris))  # type: ignore[no-any-return]


def generation(model_digest: str, inference: Inference, refiner: Mapping[str, Any]) -> str:
    """Digest all that decides a mask. Output rows of one generation answer for each other; others do not.

    Precision is left out, as `refiner`, a Refiner's fingerprint, leaves out its backend: it changes how fast a mask is
    computed, not which mask is meant.
    """
    settings = asdict(inference)
    settings.pop("precision")
    decided: dict[str, Any] = {"model": model_digest, "inference": settings}
    if not refiner or refiner.keys() & decided.keys():
        raise ConfigError(f"a refiner's fingerprint is {{name: parameters}} under a name of its own, not {refiner!r}")
    decided |= refiner
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:16]
