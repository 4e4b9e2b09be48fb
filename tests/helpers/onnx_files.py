"""Small ONNX files: a convolution of stride 4, a classifier, and what other exporters do around them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

CLASSES = ("road", "tree", "sky")
CARD: dict[str, Any] = {
    "classes": list(CLASSES),
    "channels": "RGB",
    "mean": [120.0, 118.0, 110.0],
    "std": [60.0, 58.0, 57.0],
}


def weights(classes: int = len(CLASSES)) -> dict[str, NDArray[np.float32]]:
    """Draw the weights of both convolutions."""
    rng = np.random.default_rng(0)
    shapes = {"first": (8, 3, 4, 4), "second": (classes, 8, 1, 1)}
    return {name: rng.normal(size=shape, scale=0.3).astype(np.float32) for name, shape in shapes.items()}


def graph(
    *,
    sides: tuple[int | str, int | str] = ("h", "w"),
    channels_last: bool = False,
    full: bool = False,
    classes: int = len(CLASSES),
    argmax: bool = False,
) -> onnx.ModelProto:
    """Make a model: pictures (N, 3, H, W) to logits of every fourth pixel, or of all with `full`."""
    nodes, pictures = [], "pictures"
    if channels_last:
        nodes.append(helper.make_node("Transpose", [pictures], ["planes"], perm=[0, 3, 1, 2]))
        pictures = "planes"
    nodes += [
        helper.make_node("Conv", [pictures, "first"], ["features"], strides=[4, 4], kernel_shape=[4, 4]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("Conv", ["positive", "second"], ["logits"], kernel_shape=[1, 1]),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in weights(classes).items()]
    last, kind = "logits", TensorProto.FLOAT
    if full:
        nodes.append(helper.make_node("Resize", [last, "", "scales"], ["all"], mode="linear"))
        constants.append(numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales"))
        last = "all"
    if argmax:
        nodes.append(helper.make_node("ArgMax", [last], ["labels"], axis=1))
        last, kind = "labels", TensorProto.INT64
    if channels_last:
        nodes.append(helper.make_node("Transpose", [last], ["turned"], perm=[0, 2, 3, 1]))
        last = "turned"
    planes = 1 if argmax else classes
    taken: list[str | int | None] = ["n", *sides, 3] if channels_last else ["n", 3, *sides]
    given: list[str | int | None] = ["n", "r", "c", planes] if channels_last else ["n", planes, "r", "c"]
    source = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, taken)
    result = helper.make_tensor_value_info(last, kind, given)
    made = helper.make_graph(nodes, "network", [source], [result], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolutions(sides: tuple[int, int], classes: int = len(CLASSES)) -> onnx.ModelProto:
    """Make a model of fixed sides: three convolutions of 3x3 and stride 2, padded by a pixel."""
    rng = np.random.default_rng(0)
    nodes, constants, last = [], [], "pictures"
    for number in range(3):
        shape = (classes, classes if number else 3, 3, 3)
        constants.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), f"weights {number}"))
        layer = [last, f"weights {number}"]
        last = f"planes {number}"
        nodes.append(helper.make_node("Conv", layer, [last], strides=[2, 2], pads=[1, 1, 1, 1]))
    return _model(nodes, constants, last, sides, classes)


def lightness(sides: tuple[int, int], classes: int) -> onnx.ModelProto:
    """Make a model of fixed sides whose label of each pixel rises with its red: -(x - t)^2 but for x^2, for steps t."""
    steps = np.linspace(-2, 2.25, classes, dtype=np.float32)
    weights = np.zeros((classes, 3, 1, 1), np.float32)
    weights[:, 0, 0, 0] = 2 * steps
    constants = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(-(steps**2), "bias")]
    nodes = [helper.make_node("Conv", ["pictures", "weights", "bias"], ["logits"])]
    return _model(nodes, constants, "logits", sides, classes)


def corners(classes: int = len(CLASSES), sides: tuple[int | str, int | str] = ("h", "w")) -> onnx.ModelProto:
    """Make a model of every eighth pixel's colours, whose logits are brought to every pixel with aligned corners."""
    drawn = np.random.default_rng(0).normal(size=(classes, 3, 1, 1)).astype(np.float32)
    slices = {"zero": 0, "two": 2, "four": 4}
    nodes = [
        helper.make_node("Conv", ["pictures", "weights"], ["grid"], strides=[8, 8]),
        helper.make_node("Shape", ["pictures"], ["shape of pictures"]),
        helper.make_node("Slice", ["shape of pictures", "two", "four"], ["sides"]),
        helper.make_node("Shape", ["grid"], ["shape of grid"]),
        helper.make_node("Slice", ["shape of grid", "zero", "two"], ["planes"]),
        helper.make_node("Concat", ["planes", "sides"], ["sizes"], axis=0),
        helper.make_node(
            "Resize",
            ["grid", "", "", "sizes"],
            ["all"],
            mode="linear",
            coordinate_transformation_mode="align_corners",
        ),
    ]
    constants = [numpy_helper.from_array(np.array([value]), name) for name, value in slices.items()]
    return _model(nodes, [*constants, numpy_helper.from_array(drawn, "weights")], "all", sides, classes)


def _model(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    last: str,
    sides: tuple[int | str, int | str],
    classes: int,
) -> onnx.ModelProto:
    source = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 3, *sides])
    result = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", classes, "r", "c"])
    made = helper.make_graph(nodes, "network", [source], [result], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def put(folder: Path, model: onnx.ModelProto, **card: Any) -> str:
    """Store a model and its card; returns the path of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.onnx").write_bytes(model.SerializeToString())
    (folder / "network.json").write_text(json.dumps(CARD | card))
    return str(folder / "network.onnx")


def by_torch(image: NDArray[np.uint8], classes: int = len(CLASSES)) -> torch.Tensor:
    """Logits (C, H', W') of every pixel of the picture as it is padded to multiples of 32."""
    first, second = (torch.from_numpy(value) for value in weights(classes).values())
    planes = torch.from_numpy((image - np.float32(CARD["mean"])) / np.float32(CARD["std"])).permute(2, 0, 1)[None]
    height, width = planes.shape[-2:]
    padded = functional.pad(planes, (0, -width % 32, 0, -height % 32))
    logits = functional.conv2d(functional.relu(functional.conv2d(padded, first, stride=4)), second)
    return functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)[0]


def by_onnxruntime(place: str, image: NDArray[np.uint8]) -> torch.Tensor:
    """Logits (C, r, c) that the file itself gives of a picture of sides that it takes."""
    pictures = ((image - np.float32(CARD["mean"])) / np.float32(CARD["std"])).transpose(2, 0, 1)[None]
    [logits] = onnxruntime.InferenceSession(place).run(None, {"pictures": np.ascontiguousarray(pictures)})
    return torch.from_numpy(logits[0])
