"""Configure a training run: the flags of `deeplab-buckets train` and the fields of its YAML are these dataclasses."""

from dataclasses import dataclass, field, replace

from pipeline import storage
from pipeline.data.formats.column_flags import LabelledColumnFlags
from pipeline.data.labelled import Layout
from pipeline.errors import ConfigError
from pipeline.storage import StorageConfig, Uri
from pipeline.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainConfig(StorageConfig, LabelledColumnFlags):
    """Train a network on labelled pictures.

    Args:
        data: folder or prefix of the labelled pictures; a path or URI.
        data_format: how they lie there.
        output: folder or prefix; everything of this run goes to OUTPUT/NAME.
        name: of the run and of the model it makes. The same command resumes a run that is not finished.
        model: light, vgg16-aspp, resnet101-aspp, ..., or the full name of an architecture.
        init: weights that the backbone begins with: a name of the zoo, or the path or URI of a file; random without.
        classes: names by class id; without, those of the data set that the format is named after.
        split: the pictures to train on; of two splits, train+val.
        validation_split: the pictures that choose the best checkpoint; without, it is the last one.
        workers: processes that share each batch, or [min, max] to use as many as fit.
        max_failures: how often a run that loses a worker goes on from its last checkpoint by itself.
        recipe: how the network is trained.
        licence: on what terms the weights may be used, for the card.
    """

    data: Uri
    data_format: Layout
    output: Uri
    name: str = "model"
    model: str = "light"
    init: Uri | None = None
    classes: tuple[str, ...] | None = None
    split: str = "train"
    validation_split: str | None = "val"
    workers: int | tuple[int, int] = 1
    max_failures: int = 3
    recipe: Recipe = field(default_factory=Recipe)
    licence: str = "unknown"

    def __post_init__(self) -> None:
        """Raise ConfigError for a value no run can have."""
        super().__post_init__()
        from pipeline.models.architecture import ARCHITECTURES  # here, since it loads torch

        self.recipe.check_crop(ARCHITECTURES[self.architecture].stride)
        low, high = self.worker_range
        if not 1 <= low <= high:
            raise ConfigError(f"workers is {self.workers}; give a number from 1 up, or [min, max]")
        if high > self.recipe.batch:
            raise ConfigError(f"{high} workers cannot share a batch of {self.recipe.batch} pictures; give fewer")
        if self.max_failures < 0:
            raise ConfigError(f"max_failures is {self.max_failures}; give 0 or more")
        if not self.name or "/" in self.name or self.name[0] in "._":
            raise ConfigError(f"name is {self.name!r}; it names a folder: no slash, and no dot or underscore in front")

    @property
    def worker_range(self) -> tuple[int, int]:
        """Return the fewest and the most workers."""
        return (self.workers, self.workers) if isinstance(self.workers, int) else self.workers

    @property
    def architecture(self) -> str:
        """Return the full name of the model's architecture. Raises ConfigError where there is no such model."""
        from pipeline.models.architecture import full_name

        return full_name(self.model)

    @property
    def folder(self) -> str:
        """Return the URI of OUTPUT/NAME."""
        return storage.join(self.output, self.name)

    def resolved(self) -> "TrainConfig":
        """Return the same run with paths that mean the same on every machine."""
        return replace(self, data=Uri(storage.normalize(self.data)), output=Uri(storage.normalize(self.output)))
