"""Configure an evaluation: the flags of `deeplab-buckets evaluate` and the fields of its YAML are this dataclass."""

from dataclasses import dataclass, field, replace

from pipeline import storage
from pipeline.data.formats.column_flags import LabelledColumnFlags
from pipeline.data.labelled import Layout
from pipeline.errors import ConfigError
from pipeline.evaluation.trimap import Band
from pipeline.models.inference import Inference
from pipeline.models.smp_config import SmpConfig
from pipeline.refine import RefineConfig
from pipeline.storage import StorageConfig, Uri


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StorageConfig, LabelledColumnFlags):
    """Score a model, or masks that the main job wrote, on labelled pictures.

    Args:
        data: folder or prefix of the labelled pictures; a path or URI.
        data_format: how they lie there.
        split: the pictures to score on; of two splits, train+val.
        classes: names by class id; without, those of the data set that the format is named after, else the model's.
        model: a built-in name, a name of the zoo, or the path or URI of a weights file.
        masks: instead of a model: an output of the main job.
        output: folder or prefix for scores.json, scores.md, classes.png and trimap.png; without, nothing is written.
        trimap: what the trimap's bands grow from: void pixels, as in the paper and by default for voc, or the borders
            between differently labelled pixels, for data that has no void along them.
        inference: how the network is run.
        refine: how its logits are refined.
        smp: what a state dict of segmentation_models_pytorch is of.
    """

    data: Uri
    data_format: Layout
    split: str = "val"
    classes: tuple[str, ...] | None = None
    model: Uri | None = None
    masks: Uri | None = None
    output: Uri | None = None
    trimap: Band | None = None
    inference: Inference = field(default_factory=Inference)
    refine: RefineConfig = field(default_factory=RefineConfig)
    smp: SmpConfig = field(default_factory=SmpConfig)

    def __post_init__(self) -> None:
        """Raise ConfigError unless there is one thing to score, in a way that an evaluation knows."""
        super().__post_init__()
        if (self.model is None) == (self.masks is None):
            raise ConfigError("give either --model, to run it, or --masks, an output of the main job that is there")
        defaults = {"inference": Inference(), "refine": RefineConfig(), "smp": SmpConfig()}
        given = [name for name, default in defaults.items() if getattr(self, name) != default]
        if self.masks is not None and given:
            raise ConfigError(f"{' and '.join(given)} are flags of a --model; masks are scored as they are")
        if self.refine.device == "cuda":
            raise ConfigError("refine.device is cuda; an evaluation refines on CPUs: use cpu or auto")

    @property
    def band(self) -> Band:
        """Say what the trimap's bands grow from."""
        return self.trimap or ("void" if self.data_format == "voc" else "borders")

    def resolved(self) -> "EvaluateConfig":
        """Give the same evaluation with paths that mean the same on every machine."""
        masks, output = (uri and Uri(storage.normalize(uri)) for uri in (self.masks, self.output))
        return replace(self, data=Uri(storage.normalize(self.data)), masks=masks, output=output)
