"""A data set of Hugging Face: Parquet with pictures and masks, and a card by which its viewer shows them."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.data.grouping import together
from pipeline.exports.formats.format import ExportFormat
from pipeline.exports.image import ExportedImage

_ENCODED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("image", _ENCODED),
        ("mask", _ENCODED),
        ("confidence", pa.float32()),
        ("classes", pa.list_(pa.string())),
    ]
)
_FEATURES = {
    "key": {"dtype": "string", "_type": "Value"},
    "image": {"_type": "Image"},
    "mask": {"_type": "Image"},
    "confidence": {"dtype": "float32", "_type": "Value"},
    "classes": [{"dtype": "string", "_type": "Value"}],  # which every version reads; those before 4 know no "List"
}

_GROUP_ROWS, _GROUP_BYTES = 100, 256 << 20
"""What a row group has at most, or one row: from one of 2 GiB Arrow reads no structs back."""


@dataclass(frozen=True, kw_only=True)
class HuggingFace(ExportFormat):
    """data/part-NNNNN.parquet and README.md, for `datasets.load_dataset` and the Hub; no picture where it is gone."""

    name = "huggingface"
    needs_pictures = True
    part_images = 200

    def part(self, number: int, images: Iterable[ExportedImage]) -> None:
        """See ExportFormat."""
        note = json.dumps({"info": {"features": _FEATURES}})
        schema = _SCHEMA.with_metadata({"huggingface": note})
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, schema, compression="zstd") as file:
            for rows in together(map(self._row, images), _weight, _GROUP_BYTES):
                file.write_table(pa.Table.from_pylist(rows, schema=schema))
        self.put(f"data/part-{number:05d}.parquet", buffer.getvalue())

    def _row(self, image: ExportedImage) -> dict[str, Any]:
        return {
            "key": image.key,
            "image": {"bytes": image.picture, "path": image.key} if isinstance(image.picture, bytes) else None,
            "mask": {"bytes": image.png, "path": f"{image.key}.png"},
            "confidence": image.confidence,
            "classes": [self.info.classes[label] for label in image.classes],
        }

    def finish(self, images: int) -> None:
        """Write the card."""
        names = "\n".join(f"| {label} | {_cell(name)} |" for label, name in enumerate(self.info.classes))
        head = {
            "task_categories": ["image-segmentation"],
            "pretty_name": "Masks",
            "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
        }
        words = (
            f"{images} images with masks of the model {_cell(self.info.model)}, generation {self.info.generation}. "
            "A mask is a palette PNG; the value of a pixel is its class id."
        )
        table = f"| id | class |\n| --- | --- |\n{names}\n"
        card = f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# Masks\n\n{words}\n\n{table}"
        self.put("README.md", card.encode())


def _weight(row: dict[str, Any]) -> int:
    """Give the bytes of a row's pictures, or the share of a row where a row group has as many as it may."""
    return max(sum(len(row[name]["bytes"]) for name in ("image", "mask") if row[name]), _GROUP_BYTES // _GROUP_ROWS)


def _cell(text: str) -> str:
    """Write text into a table of Markdown, so that nothing in it is markup."""
    return "".join(f"&#{ord(sign)};" if sign in "|<>&`*_[]\\#!~$" else sign for sign in text)
