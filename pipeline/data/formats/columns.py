"""Which columns of a table hold pictures, keys and masks: one rule, names before types, which a person can overrule."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.formats.format import ColumnNames
from pipeline.errors import ConfigError

_IMAGE_NAMES = ("image", "img", "picture", "photo", "image_bytes", "jpg", "jpeg", "png")
_IMAGE_WORDS = frozenset({*_IMAGE_NAMES, "photograph", "frame", "pixel", "rgb", "webp"})
_BYTES_NAMES = ("bytes", "data", "content")
_MASK_NAMES = ("mask", "label", "annotation", "segmentation", "semantic_mask", "label_image")
_MASK_WORDS = frozenset({*_MASK_NAMES, "seg", "labelmap", "trimap", "gt"})
_KEY_NAMES = ("key", "__key__", "id", "image_id", "filename", "file_name", "path", "name", "url", "uri")
_OTHER_WORDS = frozenset(
    {"sha", "md", "digest", "hash", "phash", "checksum", "crc", "etag", "id", "uuid", "guid", "key"}
    | {"embedding", "feature", "thumbnail", "thumb"}
)
"""What a name says that has `image` in it and is no image: image_sha256, image_id."""


@dataclass(frozen=True)
class Column:
    """A column called `name`, or the `field` of one that is a struct."""

    name: str
    field: str = ""

    @property
    def path(self) -> str:
        """Name it as the readers of Parquet and Arrow do."""
        return f"{self.name}.{self.field}" if self.field else self.name

    def of(self, batch: pa.RecordBatch) -> pa.Array:
        """Take its values from a batch that has it."""
        values = batch.column(self.name)
        return pc.struct_field(values, self.field) if self.field else values


@dataclass(frozen=True, kw_only=True)
class Columns:
    """`image` holds encoded bytes; `key`, where there is one, names the row; `mask` holds PNGs of labelled data."""

    image: Column
    key: Column | None
    mask: Column | None = None

    def __str__(self) -> str:
        keys = f"keys from `{self.key.path}`" if self.key else "keys from the file's name and the row's number"
        masks = f", masks from column `{self.mask.name}`" if self.mask else ""
        return f"images from column `{self.image.name}`, {keys}{masks}"


def choose_columns(schema: pa.Schema, file: str, names: ColumnNames, *, labelled: bool = False) -> Columns:
    """Choose the columns of one file.

    For pictures, the best of: a name like `image`; a name with such a word in it; a {bytes, path} struct; a name like
    `bytes`; any binary column; a name that says something else, such as a digest. A name that means a mask is never
    taken. For keys, a name like `key` or `id`, else the path in a struct of pictures. For masks, a name like `mask`.

    Args:
        schema: of the file.
        file: its redacted URI, for messages.
        names: columns that are chosen already.
        labelled: whether to choose a column of masks too.

    Raises:
        ConfigError: there is no such column, or two fit equally.
    """
    pictures = pa.schema([field for field in schema if field.name != names.mask])
    image = _chosen(pictures, file, "--image-column", names.image, _image_rank, _holds_images)
    if image is None:
        raise ConfigError(
            f"{file} has no column of encoded images (binary, or a struct with `bytes`, and not named as a mask); "
            f"its columns are {_described(schema)}; --image-column names one"
        )
    mask = None
    if labelled:
        others = pa.schema([field for field in schema if field.name != image.name])
        mask = _chosen(others, file, "--mask-column", names.mask, _mask_rank, _holds_images)
        if mask is None:
            raise ConfigError(
                f"{file} has no column {' or '.join(_MASK_NAMES)} of encoded masks; its columns are "
                f"{_described(schema)}; --mask-column names one"
            )
    return Columns(
        image=_bytes_of(image), key=_key_column(schema, file, names.key, image), mask=_bytes_of(mask) if mask else None
    )


def _key_column(schema: pa.Schema, file: str, name: str | None, image: pa.Field) -> Column | None:
    key = _chosen(schema, file, "--key-column", name, _key_rank, _holds_keys)
    if key is not None:
        return Column(key.name)
    has_path = pa.types.is_struct(image.type) and image.type.get_field_index("path") >= 0
    return Column(image.name, "path") if has_path else None


def _chosen(
    schema: pa.Schema,
    file: str,
    flag: str,
    name: str | None,
    rank: Callable[[pa.Field], tuple[int, int] | None],
    fits: Callable[[pa.DataType], bool],
) -> pa.Field | None:
    """Find the column called `name`, or else the one of the lowest rank, or None. Raises ConfigError."""
    if name is not None:
        field = next((field for field in schema if field.name == name), None)
        if field is None or not fits(field.type):
            what = "has no such column" if field is None else f"holds {field.type} there, which cannot be used"
            raise ConfigError(f"{flag} is {name!r}, and {file} {what}; its columns are {_described(schema)}")
        return field
    ranks = {field: r for field in schema if fits(field.type) and (r := rank(field)) is not None}
    best = [field for field in ranks if ranks[field] == min(ranks.values())]
    if len(best) > 1:
        raise ConfigError(
            f"{file} has {len(best)} columns that fit equally, {', '.join(field.name for field in best)}; "
            f"choose one with {flag}"
        )
    return best[0] if best else None


def _image_rank(field: pa.Field) -> tuple[int, int] | None:
    """Rank a column by what speaks for a picture, the best lowest; None for what is named as a mask."""
    name, words = field.name.lower(), _words(field.name)
    if name in _IMAGE_NAMES:
        return 0, _IMAGE_NAMES.index(name)
    if name in _MASK_NAMES or words & _MASK_WORDS:
        return None
    if words & _OTHER_WORDS:
        return 5, 0
    if words & _IMAGE_WORDS:
        return 1, 0
    if pa.types.is_struct(field.type):
        return 2, 0
    return (3, _BYTES_NAMES.index(name)) if name in _BYTES_NAMES else (4, 0)


def _mask_rank(field: pa.Field) -> tuple[int, int] | None:
    name = field.name.lower()
    if name in _MASK_NAMES:
        return 0, _MASK_NAMES.index(name)
    return (1, 0) if _words(name) & _MASK_WORDS else None


def _key_rank(field: pa.Field) -> tuple[int, int] | None:
    return (0, _KEY_NAMES.index(field.name)) if field.name in _KEY_NAMES else None


def _words(name: str) -> set[str]:
    """`pixelValues` and `pixel_values` -> {pixel, value}."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return {word.removesuffix("s") for word in re.findall(r"[a-z]+", spaced.lower())}


def _bytes_of(field: pa.Field) -> Column:
    return Column(field.name, "bytes" if pa.types.is_struct(field.type) else "")


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_keys(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
