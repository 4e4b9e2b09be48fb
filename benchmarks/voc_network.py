"""A network that was trained for 21 labels, and is 2 MB: DeepLab v3 with MobileNetV2, PASCAL VOC, quantised.

Its file is deeplabv3_mnv2_pascal_quant.tflite of https://github.com/google-coral/test_data (Apache License 2.0), and
`pip install ai-edge-litert` brings what runs it.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.logits import grid_size

STRIDE = 16
SHA256 = "350af47fd346ea6d74b58833a351f583ba860e9806ec5bd292ff8d8f1f249398"
SIDE = 513  # pixels of the pictures it takes
GREY = 128  # what they are filled up with
LOGITS = 182  # the file's tensor of (1, 33, 33, 21) logits, before they are enlarged


class VocNetwork:
    """Compute logits of 21 labels at every 16th pixel."""

    def __init__(self, path: str) -> None:
        """Open the file. Raises ConfigError where it is not the one, or the package that runs it is missing."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read the VOC network: {error}") from error
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise ConfigError(f"{path} is not the VOC network that is meant; see benchmarks/voc_network.py")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ConfigError("pip install ai-edge-litert, which runs the VOC network") from error
        self._interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
        self._interpreter.allocate_tensors()

    def logits(self, image: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Compute the logits (21, h, w) of an image (H, W, 3) of at most 513x513 pixels."""
        height, width = image.shape[:2]
        [picture] = self._interpreter.get_input_details()
        [output] = [tensor for tensor in self._interpreter.get_tensor_details() if tensor["index"] == LOGITS]
        filled = np.full((1, SIDE, SIDE, 3), GREY, np.uint8)
        filled[0, :height, :width] = image
        self._interpreter.set_tensor(picture["index"], filled)
        self._interpreter.invoke()
        scale, zero = output["quantization"]
        grid = self._interpreter.get_tensor(LOGITS)[0, : grid_size(height, STRIDE), : grid_size(width, STRIDE)]
        logits: NDArray[np.float16] = ((grid.astype(np.float32) - zero) * scale).transpose(2, 0, 1).astype(np.float16)
        return logits
