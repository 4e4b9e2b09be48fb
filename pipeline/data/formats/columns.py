"""Which columns of a table hold pictures, keys and masks: one rule, names before types, which a person can overrule."""

import re
from collections.abc import Callable, Set
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.formats.format import ColumnNames
from pipeline.data.formats.key_values import KEYS, holds_keys
from pipeline.errors import ConfigError, NoInputError

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
    """`image` holds encoded bytes; `key`, where there is one, names the row; `mask` holds PNGs of labelled data.

    `no_keys` says of columns that are called like keys what they hold instead.
    """

    image: Column
    key: Column | None
    mask: Column | None = None
    no_keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        keys = f"keys from `{self.key.path}`" if self.key else "keys from the file's name and the row's number"
        masks = f", masks from column `{self.mask.name}`" if self.mask else ""
        no_keys = f" ({', '.join(self.no_keys)}, and keys are {KEYS})" if self.no_keys else ""
        return f"images from column `{self.image.name}`, {keys}{masks}{no_keys}"


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
        NoInputError: no column holds pictures.
        ConfigError: there is no such column, or two fit equally, or have one name.
    """
    image = chosen(schema, file, _IMAGES, names.image, {names.mask})
    if image is None:
        raise NoInputError(
            f"{file} has no column of encoded images ({_IMAGES.takes}, and not named as a mask); "
            f"its columns are {described(schema)}; {_IMAGES.flag} names one",
            "other tables",
        )
    mask = chosen(schema, file, _MASKS, names.mask, {image.name}) if labelled else None
    if labelled and mask is None:
        raise ConfigError(
            f"{file} has no column {' or '.join(_MASK_NAMES)} of encoded masks; its columns are "
            f"{described(schema)}; {_MASKS.flag} names one"
        )
    pictures = {image.name, mask.name if mask else names.mask}
    key = chosen(schema, file, _KEYS, names.key, pictures)
    return Columns(
        image=_bytes_of(image),
        key=Column(key.name) if key else _path_of(image),
        mask=_bytes_of(mask) if mask else None,
        no_keys=() if names.key else _no_keys(schema, key, pictures),
    )


def _no_keys(schema: pa.Schema, key: pa.Field | None, taken: Set[str | None]) -> tuple[str, ...]:
    """Say what columns hold that are called like keys before `key` is, and cannot be keys."""
    end = len(_KEY_NAMES) if key is None else _KEY_NAMES.index(key.name)
    named = [field for field in schema if field.name in _KEY_NAMES[:end] and field.name not in taken]
    return tuple(f"`{field.name}` holds {field.type}" for field in named)


def chosen(schema: pa.Schema, file: str, role: "Role", name: str | None, taken: Set[str | None]) -> pa.Field | None:
    """Find the column called `name`, or else the one of the lowest rank that is not taken, or None.

    Raises:
        ConfigError: it cannot be used, or several fit equally.
    """
    if name is not None:
        what = ""
        if name not in schema.names:
            what = "has no such column"
        elif name in taken:
            what = "has other pictures or masks there; name another column"
        elif not role.fits((field := only(schema, file, name)).type):
            what = f"holds {field.type} there, which cannot be used: it takes {role.takes}"
        if what:
            raise ConfigError(f"{role.flag} is {name!r}, and {file} {what}; its columns are {described(schema)}")
        return field
    free = [field for field in schema if field.name not in taken and role.fits(field.type)]
    ranks = {field: rank for field in free if (rank := role.rank(field)) is not None}
    best = [only(schema, file, field.name) for field in ranks if ranks[field] == min(ranks.values())]
    if len(best) > 1:
        raise ConfigError(
            f"{file} has {len(best)} columns that fit equally, {', '.join(field.name for field in best)}; "
            f"choose one with {role.flag}"
        )
    return best[0] if best else None


def only(schema: pa.Schema, file: str, name: str) -> pa.Field:
    """Give the column called `name`. Raises ConfigError where there are two: no reader tells them apart."""
    count = schema.names.count(name)
    if count > 1:
        raise ConfigError(f"{file} has {count} columns called {name!r}; rename all but one of them")
    return schema.field(name)


def _image_rank(field: pa.Field) -> tuple[int, int] | None:
    """Rank a column by what speaks for a picture, the best lowest; None for what is named as a mask."""
    name, words = field.name.lower(), words_of(field.name)
    if name in _IMAGE_NAMES:
        return 0, _IMAGE_NAMES.index(name)
    if name in _MASK_NAMES or words & _MASK_WORDS:
        return None
    if words & _OTHER_WORDS or name in _KEY_NAMES:
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
    return (1, 0) if words_of(name) & _MASK_WORDS else None


def _key_rank(field: pa.Field) -> tuple[int, int] | None:
    return (0, _KEY_NAMES.index(field.name)) if field.name in _KEY_NAMES else None


def words_of(name: str) -> set[str]:
    """Take a column's name apart: `pixelValues` and `pixel_values` -> {pixel, value}."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return {word.removesuffix("s") for word in re.findall(r"[a-z]+", spaced.lower())}


def _bytes_of(field: pa.Field) -> Column:
    return Column(field.name, "bytes" if pa.types.is_struct(field.type) else "")


def _path_of(field: pa.Field) -> Column | None:
    has_path = pa.types.is_struct(field.type) and field.type.get_field_index("path") >= 0
    return Column(field.name, "path") if has_path and holds_keys(field.type.field("path").type) else None


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def described(schema: pa.Schema) -> str:
    """Name the columns and their types, for messages."""
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


@dataclass(frozen=True, kw_only=True)
class Role:
    """How a column is chosen for something: by which flag, else by what rank, among those that fit; what it takes."""

    flag: str
    rank: Callable[[pa.Field], tuple[int, int] | None]
    fits: Callable[[pa.DataType], bool]
    takes: str


_ENCODED = "binary, or a struct with `bytes`"
_IMAGES = Role(flag="--image-column", rank=_image_rank, fits=_holds_images, takes=_ENCODED)
_MASKS = Role(flag="--mask-column", rank=_mask_rank, fits=_holds_images, takes=_ENCODED)
_KEYS = Role(flag="--key-column", rank=_key_rank, fits=holds_keys, takes=KEYS)
