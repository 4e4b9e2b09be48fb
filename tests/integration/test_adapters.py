"""The main job with networks of other frameworks, over pictures on S3."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from pipeline import masks, storage
from tests.helpers import hugging_face, onnx_files
from tests.helpers.segmenting import summary

Picture = NDArray[np.uint8]
Own = Callable[[Picture], Picture]
"""The framework's own processing: a picture in, its mask out."""

PICTURES: dict[str, Picture] = {
    f"{name}.png": np.asarray(Image.fromarray(image).resize(size))
    for name, image, size in (("a", data.coffee(), (160, 120)), ("b", data.rocket(), (90, 150)))
}


def of_transformers(folder: Path) -> tuple[str, Own]:
    model, processor = hugging_face.put(folder, "segformer")

    def own(image: Picture) -> Picture:
        with torch.inference_mode():
            found = model(**processor(images=image, return_tensors="pt"))
        [mask] = processor.post_process_semantic_segmentation(found, target_sizes=[image.shape[:2]])
        return mask.numpy().astype(np.uint8)  # type: ignore[no-any-return]

    return str(folder), own


def of_onnx(folder: Path) -> tuple[str, Own]:
    def own(image: Picture) -> Picture:
        height, width = image.shape[:2]
        return onnx_files.by_torch(image).argmax(dim=0)[:height, :width].numpy().astype(np.uint8)  # type: ignore[no-any-return]

    return onnx_files.put(folder, onnx_files.graph()), own


@pytest.mark.parametrize(("adapter", "put"), [("hf", of_transformers), ("onnx", of_onnx)])
def test_masks_are_those_of_the_framework(
    adapter: str,
    put: Callable[[Path], tuple[str, Own]],
    cluster: None,
    bucket: str,
    tmp_path: Path,
) -> None:
    model, own = put(tmp_path / "network")
    for name, image in PICTURES.items():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        storage.put_whole(f"{bucket}/in/{name}", buffer.getvalue())
    flags = (f"--input={bucket}/in", f"--output={bucket}/out", f"--model={model}", "--inference.precision=float32")
    done = summary(*flags, "--refine.backend=none")
    assert (done["segmented"], done["adapter"], done["model"]) == (len(PICTURES), adapter, "network")
    found = dict(masks.read(f"{bucket}/out"))
    for name, image in PICTURES.items():
        assert (found[name] == own(image)).mean() >= 0.999
    [note] = masks.generations(f"{bucket}/out")
    assert note.adapter == adapter
    refined = summary(*flags)
    assert (refined["segmented"], refined["generation"] != done["generation"]) == (len(PICTURES), True)
