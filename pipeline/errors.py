"""The project's exceptions. Each message says what was wrong, with which value, and what to do."""


class PipelineError(Exception):
    """Any error this project raises on purpose."""


class ConfigError(PipelineError):
    """A flag, a configuration file or an argument that cannot be used; raised before any work."""


class NoInputError(ConfigError):
    """A file that is called like input and holds none; `kind`, in the plural, is what it is instead."""

    def __init__(self, message: str, kind: str) -> None:
        """Take the message, and the kind by which such files are counted."""
        super().__init__(message, kind)  # both, since it is sent between processes
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[0])


class StorageError(PipelineError):
    """A bucket or path that cannot be reached, listed, read or written."""


class MissingError(StorageError):
    """An object or folder that is not there, or is no longer the one that was opened."""


class ShardError(PipelineError):
    """A tar or Parquet file of images that is damaged, gone, refused, or not the one that was listed."""


class OutputError(PipelineError):
    """A file of an output that is damaged, or that this pipeline did not write."""


class LostNoteError(OutputError):
    """A file of an output without its note: what its rows were made with is not known."""


class ImageError(PipelineError):
    """Bytes that are not an image this project decodes, or an image beyond its limits."""


class WeightsError(PipelineError):
    """A weights file that is missing, damaged, or of no known layout."""


class ModelError(PipelineError):
    """An input that a network cannot take, such as a size that is not valid for its output stride."""


class DeviceLostError(PipelineError):
    """A GPU is in an error state: this process can do nothing more on it."""


class CRFError(PipelineError):
    """An input or a parameter that the dense CRF cannot take."""


class WorkerError(PipelineError):
    """An image that took its worker process down every time it was tried."""


class VerdictError(PipelineError):
    """A job that came to its end, which is not a good one; `summary` is what it prints all the same."""

    code: int
    """The job's exit code."""

    def __init__(self, message: str, summary: str) -> None:
        """Take the message and the summary, one line of JSON."""
        super().__init__(message)
        self.summary = summary


class ProblemsError(VerdictError):
    """An output that is not sound."""

    code = 1


class UnwrittenError(VerdictError):
    """Figures that are known, and that a storage does not take."""

    code = 1


class BudgetError(VerdictError):
    """More failed images than a run's error budget allows."""

    code = 3


class DriftError(VerdictError):
    """Masks that are further from others than is allowed."""

    code = 4


class RunError(PipelineError):
    """A run that cannot start on this cluster, or that ended without accounting for every image."""
