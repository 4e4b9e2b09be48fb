"""Register the adapters of other frameworks. A new one is a file here, with an Adapter, and a line below."""

from pipeline import storage
from pipeline.errors import ConfigError
from pipeline.models.adapters import huggingface, onnx, smp
from pipeline.models.adapters.adapter import Adapter
from pipeline.models.smp_config import SmpConfig

ADAPTERS: dict[str, Adapter] = {
    huggingface.NAME: huggingface.ADAPTER,
    onnx.NAME: onnx.ADAPTER,
    smp.NAME: smp.ADAPTER,
}


def adapter_for(place: str, flags: SmpConfig | None = None) -> Adapter | None:
    """Return the adapter that a value of --model is for, or None where it is for none.

    Raises:
        ConfigError: `flags` name a network of smp, and the place is no state dict.
    """
    if flags is None or flags.architecture is None:
        return next((adapter for adapter in ADAPTERS.values() if adapter.recognises(place)), None)
    if not (adapter := smp.of_flags(flags)).recognises(place):
        raise ConfigError(
            f"smp.architecture is for a state dict, {' or '.join(f'FILE{suffix}' for suffix in smp.SUFFIXES)}, and the "
            f"model is {storage.redact(place)}; leave it out"
        )
    return adapter


__all__ = ["ADAPTERS", "Adapter", "adapter_for"]
