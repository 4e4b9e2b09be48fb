"""How many images of a run may fail: one rule for the exit code, for the alert, and for the run while it works."""

from dataclasses import dataclass

from pipeline.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ErrorBudget:
    """The share of a run's images that may fail.

    Attributes:
        share: from 0 to 1.
        least_images: of fewer images one failure is much; so few are judged only when the run has ended.
    """

    share: float
    least_images: int = 20

    def __post_init__(self) -> None:
        """Raise ConfigError for what is no share."""
        if not 0 <= self.share <= 1:
            raise ConfigError(f"error_budget is {self.share}; it is a share of the images, from 0 to 1")

    def is_exceeded(self, failed: int, images: int) -> bool:
        """Tell whether `failed` of the `images` that a run has done are too many, now that it has ended."""
        return images > 0 and failed / images > self.share  # not a product, which may round below a share that is met

    def is_exceeded_early(self, failed: int, images: int) -> bool:
        """Tell whether `failed` are too many while the run is at work.

        Args:
            failed: so far.
            images: for the run, all that it has to do, so that no image to come can change the verdict; for the alert
                in infra/monitoring, those that are done.
        """
        return images >= self.least_images and self.is_exceeded(failed, images)
