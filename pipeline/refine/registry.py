"""The refiners by name, and the configuration that chooses one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import ConfigError
from pipeline.refine.argmax import Argmax
from pipeline.refine.crf import PRUNE, CRFParams, DenseCRF, check_prune
from pipeline.refine.refiner import Refiner


def _dense_crf(config: "RefineConfig", suited: Mapping[str, Any]) -> Refiner:
    return DenseCRF(config.params or CRFParams(**suited), config.backend, config.prune)


REFINERS: dict[str, Callable[["RefineConfig", Mapping[str, Any]], Refiner]] = {
    "native": _dense_crf,
    "pydensecrf": _dense_crf,
    "none": lambda _config, _suited: Argmax(),
}
"""A line a refiner: its name in --refine.backend, and its maker from the configuration and the model card's `crf`."""

RefineDevice = Literal["auto", "cpu", "cuda"]

if TYPE_CHECKING:
    RefinerName = str
else:
    RefinerName = Literal[tuple(REFINERS)]  # so that --help lists them


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """Refinement of the network's logits.

    Args:
        backend: the dense CRF's implementation: native, the project's own, or pydensecrf, which it agrees with; or
            none: the plain argmax of the upsampled logits.
        device: where it is done. On cuda each GPU's actor segments and refines by itself; with auto CPUs refine while
            they can, and GPUs what these cannot.
        prune: labels whose probability is below it everywhere in a picture are left out, on CPUs also those below
            twice that after a step of the mean field; 0 keeps all.
        params: the CRF's parameters; by default those of the model's card.
    """

    backend: RefinerName = "native"
    device: RefineDevice = "auto"
    prune: float = PRUNE
    params: CRFParams | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for a refiner that is not there or cannot run on the device, or a prune that is none."""
        if self.backend not in REFINERS:
            raise ConfigError(f"no refine.backend {self.backend!r}; choose from: {', '.join(REFINERS)}")
        check_prune(self.prune)
        if self.device == "cuda" and REFINERS[self.backend](self, {}).on_gpu() is None:
            raise ConfigError(
                f"refine.device is cuda and refine.backend {self.backend}, which has no CUDA path; use native, or cpu"
            )


def make_refiner(config: RefineConfig, suited: Mapping[str, Any], labels: int) -> Refiner:
    """Make the refiner that a person asked for.

    Args:
        config: the person's choice.
        suited: the CRF parameters on the model's card, for where `config` has none.
        labels: how many the model has.

    Raises:
        ConfigError: settings that the refiner cannot have, or that are for another number of labels.
        CRFError: the refiner cannot run here.
    """
    if config.params:
        config.params.check_labels(labels)
    return REFINERS[config.backend](config, suited)
