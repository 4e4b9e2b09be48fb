"""Read how transformers prepares pictures for a network: the settings of a folder's image processor and tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry import Resize
from pipeline.models.adapters.files import json_object
from pipeline.models.plain import value_of
from pipeline.models.preprocessing import Preprocessing

PROCESSOR = "preprocessor_config.json"

_TASK = "the task is semantic"  # as OneFormer's authors have it
_BILINEAR = 2  # as Pillow numbers its filters
_DIVIDED = ("mask2former", "maskformer")  # families whose pictures are resized to multiples of size_divisor


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


def preparation_of(how: Mapping[str, Any], family: str) -> tuple[Preprocessing, Resize | None]:
    """Say what an image processor does to pixels, and to sides. Raises WeightsError for settings that make no sense."""
    try:
        return preprocessing_of(how), resize_of(how, family)
    except ConfigError as error:
        raise WeightsError(f"{PROCESSOR}: {error}") from error


def preprocessing_of(how: Mapping[str, Any]) -> Preprocessing:
    """Say in units of 0-255 what an image processor does to a pixel. Raises ConfigError for what makes no sense."""
    factor = value_of(float, how.get("rescale_factor", 1 / 255), "rescale_factor") if how.get("do_rescale", True) else 1
    if factor <= 0:
        raise ConfigError(f"rescale_factor is {factor}; it must be above 0")
    normalised = how if how.get("do_normalize") else {"image_mean": 0, "image_std": 1}
    return Preprocessing(
        channels="BGR" if how.get("do_flip_channel_order") else "RGB",
        mean=_of_channels(normalised, "image_mean", factor),
        std=_of_channels(normalised, "image_std", factor),
    )


def _of_channels(how: Mapping[str, Any], name: str, factor: float) -> tuple[float, float, float]:
    """Read a number for each channel, or one for all, in units of 0-255."""
    value = value_of(tuple[float, float, float] | float, how.get(name), name)
    first, second, third = value if isinstance(value, tuple) else (value,) * 3
    return first / factor, second / factor, third / factor


def resize_of(how: Mapping[str, Any], family: str) -> Resize | None:
    """Say to what sides an image processor brings a picture; None where it leaves them. Raises ConfigError."""
    _check_padding(how, family)
    if not how.get("do_resize"):
        return None
    multiple, rounding = _multiple_of(how, family)
    resample = how.get("resample", _BILINEAR)  # transformers takes any name for bilinear; here the others are refused
    resample = int(value_of(int, _BILINEAR if resample == "bilinear" else resample, "resample"))
    size = how.get("size")
    size = value_of(Mapping[str, int], {"height": size, "width": size} if isinstance(size, int) else size, "size")
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
                "it has keep_aspect_ratio, which is DPT's, but transformers' DPT segments only squares; set it to false"
            )
        sides = size["height"], size["width"]
        return Resize(sides=sides, multiple=multiple, rounding=rounding, resample=resample)
    raise ConfigError(f"it has the size {size!r}; known are height and width, or shortest_edge")


def _check_padding(how: Mapping[str, Any], family: str) -> None:
    """Raise ConfigError where an image processor pads pictures, since the network would see others here."""
    if family in _DIVIDED and how.get("pad_size") is not None:
        raise ConfigError(f"pad_size is {how['pad_size']}, and pictures are not padded here; remove it")
    if family not in _DIVIDED and how.get("do_pad") and how.get("size_divisor") is not None:
        raise ConfigError(f"it pads to size_divisor {how['size_divisor']}, which is not done here; set do_pad to false")


def _multiple_of(how: Mapping[str, Any], family: str) -> tuple[int, Literal["nearest", "up"]]:
    """Say what sides are multiples of, and which: the next for Mask2Former and MaskFormer, for DPT the nearest.

    DPT's own size_divisor is what it would pad to.
    """
    if family in _DIVIDED:
        return value_of(int, how.get("size_divisor") or 1, "size_divisor"), "up"
    return value_of(int, how.get("ensure_multiple_of") or 1, "ensure_multiple_of"), "nearest"


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
