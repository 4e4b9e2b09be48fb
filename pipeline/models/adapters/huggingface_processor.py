"""Read how transformers prepares pictures for a network: the settings of a folder's image processor and tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry import Resize
from pipeline.models.adapters.files import json_object
from pipeline.models.preprocessing import Preprocessing

PROCESSOR = "preprocessor_config.json"

_TASK = "the task is semantic"  # as OneFormer's authors have it
_BILINEAR = 2  # as Pillow numbers its filters


def processor_settings(folder: Path, family: str) -> dict[str, Any]:
    """Read the image processor's settings, with its class's defaults for what the file does not say.

    What the file says and the class does not know is left out: a `size_divisor` of OneFormer does nothing.
    """
    from transformers import AutoImageProcessor

    if "auto_map" in json_object(folder / PROCESSOR):
        raise WeightsError(f"{PROCESSOR} asks to run code that the model brings (auto_map), which is never done")
    without = {"class_info_file": None} if family == "oneformer" else {}  # it would be fetched, and only trains
    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil", **without
        )
    except Exception as error:  # as above
        raise WeightsError(f"transformers cannot read {PROCESSOR}: {' '.join(str(error).split())[:300]}") from error
    known = type(processor).valid_kwargs.__annotations__
    return {name: value for name, value in processor.to_dict().items() if name in known}


def preprocessing_of(how: Mapping[str, Any]) -> Preprocessing:
    """Say in units of 0-255 what an image processor does to a pixel. Raises ConfigError for what makes no sense."""
    factor = float(how.get("rescale_factor", 1 / 255)) if how.get("do_rescale", True) else 1.0
    normalised = how.get("do_normalize") and how.get("image_mean") is not None
    mean, std = (how["image_mean"], how["image_std"]) if normalised else ([0.0] * 3, [1.0] * 3)
    return Preprocessing(
        channels="BGR" if how.get("do_flip_channel_order") else "RGB",
        mean=tuple(float(value) / factor for value in mean),  # type: ignore[arg-type]  # three are checked there
        std=tuple(float(value) / factor for value in std),  # type: ignore[arg-type]
    )


def resize_of(how: Mapping[str, Any]) -> Resize | None:
    """Say to what sides an image processor brings a picture; None where it leaves them. Raises ConfigError."""
    if not how.get("do_resize"):
        return None
    size, resample = how.get("size") or {}, int(how.get("resample", _BILINEAR))
    multiple, rounding = _multiple_of(how)
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if "shortest_edge" in size:
        return Resize(
            shortest=size["shortest_edge"],
            longest=size.get("longest_edge"),
            multiple=multiple,
            rounding=rounding,
            resample=resample,
        )
    if "height" in size and "width" in size:
        if how.get("keep_aspect_ratio"):
            raise ConfigError(
                f"{PROCESSOR} has keep_aspect_ratio, which is DPT's, but transformers' DPT segments only squares; "
                "set it to false"
            )
        sides = size["height"], size["width"]
        return Resize(sides=sides, multiple=multiple, rounding=rounding, resample=resample)
    raise ConfigError(f"{PROCESSOR} has the size {size!r}; known are height and width, or shortest_edge")


def _multiple_of(how: Mapping[str, Any]) -> tuple[int, Literal["nearest", "up"]]:
    """Say what sides are multiples of, and which: the next for Mask2Former and MaskFormer, for DPT the nearest."""
    if how.get("size_divisor"):
        return int(how["size_divisor"]), "up"
    return int(how.get("ensure_multiple_of") or 1), "nearest"


def task_tokens(folder: Path, length: int) -> Tensor:
    """Encode the task that OneFormer is given, by the folder's own tokenizer."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as above
        raise WeightsError(f"OneFormer needs its tokenizer's files: {' '.join(str(error).split())[:300]}") from error
    tokens = tokenizer(_TASK, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    ids: Tensor = tokens["input_ids"] * tokens["attention_mask"]  # zeros behind the text, as its own processing has it
    return ids
