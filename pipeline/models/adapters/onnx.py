"""Run ONNX files: one input of pictures, one output of logits, and a card beside the file, NAME.json.

The card says what the file does not: the classes, how colours are scaled, and perhaps sizes. See EXAMPLE.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import storage
from pipeline.errors import ConfigError, ModelError, StorageError, WeightsError
from pipeline.geometry import Geometry, Origin, Resize, aligned, half_pixels
from pipeline.masks import pascal_palette
from pipeline.models.adapters.adapter import Adapter
from pipeline.models.adapters.files import digest_of
from pipeline.models.adapters.full_resolution import centres_of_squares, corners_of_squares, kept_stride
from pipeline.models.card import Card
from pipeline.models.network import Network
from pipeline.models.plain import build, plain_object
from pipeline.models.preprocessing import Preprocessing

NAME = "onnx"
SUFFIX = ".onnx"

EXAMPLE = (
    '{"classes": ["background", "road"], "channels": "RGB", "mean": [123.675, 116.28, 103.53], '
    '"std": [58.395, 57.12, 57.375]}'
)
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True, kw_only=True)
class OnnxCard:
    """Hold what the card beside an ONNX file says.

    classes: names by class index.
    channels, mean, std: the network takes (pixel - mean) / std, with pixels from 0 to 255, in this order of colours.
    origin: where the logits lie: "half" pixels, or "aligned" corners.
    step: sides that a network of free sizes takes are multiples of it, in pixels; aligned ones have a pixel more.
    resize: height and width that a network of free sizes sees pictures at; one of fixed sizes has its own.
    palette, licence, training_split: of the weights.
    """

    classes: tuple[str, ...]
    channels: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    origin: Origin = "half"
    step: int = 32
    resize: tuple[int, int] | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    licence: str = "unknown"
    training_split: str = "none"

    def __post_init__(self) -> None:
        """Raise ConfigError for a step that is none."""
        if not 1 <= self.step <= 1024:
            raise ConfigError(f"step is {self.step}; it must be from 1 to 1024")


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Say what a file takes and gives.

    source, result: names of its input and its output.
    kind: NumPy type of the input.
    channels_last: whether pictures, and whether logits, are (N, H, W, C).
    one_by_one: whether it takes one picture at a time.
    sides: the height and width that it takes; None for any.
    """

    source: str
    result: str
    kind: type
    channels_last: tuple[bool, bool]
    one_by_one: bool
    sides: tuple[int, int] | None


class OnnxNetwork(Network):
    """Run an ONNX file in onnxruntime, on the device where its batch is."""

    adapter = NAME
    compiles = False

    def __init__(self, card: Card, file: bytes, says: OnnxCard, digest: str) -> None:
        super().__init__(card)
        self._file, self._says, self._digest = file, says, digest
        self._sessions: dict[str, Any] = {}
        self._takes = signature(self._session("cpu"), len(says.classes))
        sides = self._takes.sides or says.resize
        self._resize = Resize(sides=sides) if sides else None
        self._stride = 1
        self._stride = self._found_stride(sides or (4 * says.step, 4 * says.step))

    def __getstate__(self) -> dict[str, Any]:
        """Leave sessions where they are: another process opens its own."""
        return self.__dict__ | {"_sessions": {}}

    @property
    def network(self) -> str:
        """Say that it is what the file holds."""
        return "ONNX graph"

    @property
    def geometry(self) -> Geometry:
        """Return the grid that the card says; over a resized picture the network's own of half pixels is stretched."""
        stride = kept_stride(len(self.classes)) if self._is_full else self._stride
        if self._says.origin == "aligned":
            return aligned(stride, self._resize)
        return half_pixels(stride, self._resize, spans=self._resize is not None and not self._is_full)

    @property
    def step(self) -> int:
        """Return the step of the sizes: the card's, and the stride divides it."""
        return 1 if self._resize else math.lcm(self._says.step, self.geometry.stride)

    @property
    def digest(self) -> str:
        """Return the digest of the file and of what the card says of its results."""
        return self._digest

    def grid(self, batch: Tensor) -> Tensor:
        """Compute the logits (N, C, h, w); those of every pixel of many classes on a coarser grid."""
        logits = self._run(batch)
        if len(self.classes) == 2 and logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)  # softmax of (0, z) is the sigmoid of z
        if not self._is_full:
            return logits
        squares = corners_of_squares if self._says.origin == "aligned" else centres_of_squares
        return squares(logits, self.geometry.stride)

    @property
    def _is_full(self) -> bool:
        return self._stride == 1

    def _run(self, batch: Tensor) -> Tensor:
        takes, session = self._takes, self._session(batch.device.type)
        pictures: NDArray[Any] = batch.float().cpu().numpy().astype(takes.kind)  # (N, 3, H, W)
        if takes.channels_last[0]:
            pictures = pictures.transpose(0, 2, 3, 1)
        parts = np.split(pictures, len(pictures)) if takes.one_by_one else [pictures]
        found = [session.run([takes.result], {takes.source: np.ascontiguousarray(part)})[0] for part in parts]
        logits = torch.from_numpy(np.concatenate(found)).to(batch.device).float()
        return logits.permute(0, 3, 1, 2) if takes.channels_last[1] else logits

    def _session(self, device: str) -> Any:
        """Open the file on a device, once in a process."""
        if device not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 4
            wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
            there = [one for one in wanted if one in onnxruntime.get_available_providers()]
            try:
                self._sessions[device] = onnxruntime.InferenceSession(self._file, options, providers=there)
            except Exception as error:  # of any kind: of a graph that makes no sense, or has operators of its own
                raise WeightsError(f"onnxruntime cannot load it: {' '.join(str(error).split())[:300]}") from error
        return self._sessions[device]

    def _found_stride(self, sides: tuple[int, int]) -> int:
        """Find the output stride by running the network once, on nothing."""
        grid_of = aligned if self._says.origin == "aligned" else half_pixels
        extra = grid_of(1).extra
        height, width = sides if self._resize else (sides[0] + extra, sides[1] + extra)
        try:
            logits = self._run(torch.zeros(1, 3, height, width))
        except Exception as error:  # as above
            raise WeightsError(
                f"it does not take a picture of {height}x{width}: {' '.join(str(error).split())[:200]}; its card can "
                'say "step" or "resize"'
            ) from error
        expected = {len(self.classes), 1 if len(self.classes) == 2 else len(self.classes)}
        if logits.ndim != 4 or logits.shape[1] not in expected:
            raise WeightsError(
                f"it gives logits of shape {tuple(logits.shape)}, and its card names {len(self.classes)} classes"
            )
        stride = max(round((height - extra) / max(logits.shape[2] - extra, 1)), 1)
        rows, columns = grid_of(stride).grid(height, width)
        if tuple(logits.shape[2:]) != (rows, columns):
            raise ModelError(
                f"{logits.shape[2]}x{logits.shape[3]} logits for {height}x{width} pixels are on no grid of one stride; "
                f"at one of {stride} pixels they would be {rows}x{columns}"
            )
        return stride


def recognises(place: str) -> bool:
    """Tell whether it is called like an ONNX file."""
    return place.endswith(SUFFIX)


def load(place: str) -> Network:
    """Load the file at a path or URI, with its card beside it.

    Raises:
        WeightsError: either is missing, damaged, or says what cannot be; the message says what is expected.
    """
    try:
        says, file = _card(place), _file(place)
        card = Card(
            name=PurePosixPath(storage.redact(place)).stem,
            classes=says.classes,
            palette=says.palette or tuple((r, g, b) for r, g, b in pascal_palette(len(says.classes)).tolist()),
            preprocessing=Preprocessing(channels=says.channels, mean=says.mean, std=says.std),
            licence=says.licence,
            training_split=says.training_split,
            source=storage.redact(place),
        )
        kept = kept_stride(len(says.classes))
        decisive = (NAME, says.classes, says.channels, says.mean, says.std, says.origin, says.step, says.resize, kept)
        return OnnxNetwork(card, file, says, digest_of([repr(decisive).encode(), file], [])).eval()
    except (ConfigError, ModelError, WeightsError, StorageError) as error:
        raise WeightsError(f"{storage.redact(place)}: {error}") from error


def _card(place: str) -> OnnxCard:
    uri = place.removesuffix(SUFFIX) + ".json"
    try:
        plain: Mapping[str, Any] = plain_object(json.loads(storage.read_bytes(uri)), "card")
        return build(OnnxCard, plain, "card")
    except StorageError as error:
        raise WeightsError(f"an ONNX file needs its card beside it: {error}; for example {EXAMPLE}") from error
    except (ConfigError, ValueError, RecursionError) as error:
        raise WeightsError(f"the card {storage.redact(uri)} cannot be used: {error}; for example {EXAMPLE}") from error


def _file(place: str) -> bytes:
    """Read the graph, with the weights that it keeps in files beside it."""
    import onnx
    from onnx.external_data_helper import _get_all_tensors, load_external_data_for_model, uses_external_data

    data = storage.read_bytes(place)
    try:
        graph = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises what it likes
        raise WeightsError(f"it is no ONNX file: {' '.join(str(error).split())[:200]}") from error
    tensors = [tensor for tensor in _get_all_tensors(graph) if uses_external_data(tensor)]
    if not tensors:
        return data
    if "://" in place:
        raise WeightsError("it keeps weights in other files; store it in one, or give a path on this machine")
    for tensor in tensors:
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        if len(places) != 1 or PurePosixPath(places[0]).name != places[0] or "\\" in places[0]:
            raise WeightsError(f"it keeps weights in {places}, outside its folder; a model keeps to its own folder")
    try:
        load_external_data_for_model(graph, place.rpartition("/")[0] or ".")
        whole: bytes = graph.SerializeToString()
    except Exception as error:  # as above; of more than 2 GiB, too
        raise WeightsError(f"its weights cannot be read: {' '.join(str(error).split())[:200]}") from error
    return whole


def signature(session: Any, classes: int) -> Signature:
    """Read what a session takes and gives. Raises WeightsError for anything but pictures and logits."""
    sources, results = session.get_inputs(), session.get_outputs()
    if len(sources) != 1 or len(results) != 1:
        raise WeightsError(
            f"it has the inputs {[one.name for one in sources]} and the outputs {[one.name for one in results]}; it "
            "must have one input, pictures, and one output, their logits"
        )
    [source], [result] = sources, results
    if source.type not in _TYPES or result.type not in _TYPES:
        raise WeightsError(
            f"it takes {source.type} and gives {result.type}; it must take and give floats: export it with the scaling "
            "of colours outside, and without argmax"
        )
    if len(source.shape) != 4 or 3 not in (source.shape[1], source.shape[3]):
        raise WeightsError(f"its input has the shape {source.shape}; it must be (N, 3, H, W) or (N, H, W, 3)")
    takes_last = source.shape[1] != 3
    height, width = source.shape[1:3] if takes_last else source.shape[2:]
    fixed = isinstance(height, int) and isinstance(width, int)
    shape = result.shape
    gives_last = len(shape) == 4 and shape[1] not in (classes, 1) and shape[3] in (classes, 1)
    return Signature(
        source=source.name,
        result=result.name,
        kind=_TYPES[source.type],
        channels_last=(takes_last, gives_last),
        one_by_one=source.shape[0] == 1,
        sides=(height, width) if fixed else None,
    )


ADAPTER = Adapter(
    reads="an ONNX file with its card beside it",
    example="FILE.onnx",
    place="in the file",
    extra="onnx",
    package="onnxruntime",
    recognises=recognises,
    load=load,
)
