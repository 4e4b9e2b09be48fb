"""Name by flags the network that a state dict of segmentation_models_pytorch is of."""

from dataclasses import dataclass

from pipeline.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SmpConfig:
    """Name what a state dict of segmentation_models_pytorch is of, in place of a card beside it.

    Args:
        architecture: the class, such as DeepLabV3Plus.
        encoder_name: the encoder, such as resnet50.
    """

    architecture: str | None = None
    encoder_name: str | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError where one is named without the other."""
        if (self.architecture is None) != (self.encoder_name is None):
            raise ConfigError(
                f"smp.architecture is {self.architecture} and smp.encoder_name {self.encoder_name}; give both, or "
                "neither where a card beside the file names them"
            )
