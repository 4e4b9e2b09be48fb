"""Register the adapters of other frameworks. A new one is a file here, with an Adapter, and a line below."""

from pipeline.models.adapters import huggingface, onnx, smp
from pipeline.models.adapters.adapter import Adapter

ADAPTERS: dict[str, Adapter] = {
    huggingface.NAME: huggingface.ADAPTER,
    onnx.NAME: onnx.ADAPTER,
    smp.NAME: smp.ADAPTER,
}


def adapter_for(place: str) -> Adapter | None:
    """Return the adapter that a value of --model is for, or None where it is for none."""
    return next((adapter for adapter in ADAPTERS.values() if adapter.recognises(place)), None)


__all__ = ["ADAPTERS", "Adapter", "adapter_for"]
