"""One rule chooses the columns of pictures, keys and masks: names before types; what fits equally is refused."""

import io
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.formats.columns import Column, Columns, choose_columns
from pipeline.data.formats.format import BY_RULE, ColumnNames
from pipeline.data.formats.key_values import holds_keys, texts
from pipeline.errors import ConfigError
from tests.helpers.shards import parquet_bytes

BINARY, TEXT, NUMBER = pa.binary(), pa.string(), pa.int64()
STRUCT = pa.struct([("bytes", BINARY), ("path", TEXT)])
UUID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
LISTS = pa.struct([("bytes", pa.list_(BINARY))])


def choose(names: ColumnNames = BY_RULE, labelled: bool = False, **columns: pa.DataType) -> Columns:
    return choose_columns(pa.schema(list(columns.items())), "part.parquet", names, labelled=labelled)


@pytest.mark.parametrize(
    ("columns", "image"),
    [
        ({"blob": BINARY, "picture": STRUCT, "url": TEXT}, Column("picture", "bytes")),
        ({"other": BINARY, "jpg": pa.large_binary(), "text": TEXT}, Column("jpg")),
        ({"image": LISTS, "raw": BINARY}, Column("raw")),
        ({"blob": BINARY, "cell": STRUCT}, Column("cell", "bytes")),
        ({"content": BINARY, "cell": STRUCT}, Column("cell", "bytes")),
        ({"blob": BINARY, "content": BINARY}, Column("content")),
        ({"img": STRUCT, "image": STRUCT}, Column("image", "bytes")),
        ({"image": BINARY, "mask": STRUCT}, Column("image")),
        ({"label": STRUCT, "pixel_values": STRUCT}, Column("pixel_values", "bytes")),
        ({"image_mask": STRUCT, "annotations": STRUCT, "blob": BINARY}, Column("blob")),
        ({"sha256": BINARY, "photo": BINARY}, Column("photo")),
        ({"image_id": BINARY, "image_sha256": BINARY, "raw": BINARY}, Column("raw")),
        ({"sha256": BINARY}, Column("sha256")),
        ({"frontImage": BINARY, "blob": STRUCT}, Column("frontImage")),
    ],
)
def test_the_column_of_pictures(columns: dict[str, pa.DataType], image: Column) -> None:
    assert choose(**columns).image == image


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ({"image": STRUCT, "url": TEXT, "id": NUMBER}, Column("id")),
        ({"image": STRUCT, "text": TEXT}, Column("image", "path")),
        ({"image": BINARY, "text": TEXT}, None),
        ({"image": BINARY, "id": pa.float64(), "name": TEXT}, Column("name")),
        ({"image": BINARY, "id": pa.dictionary(pa.int32(), TEXT)}, Column("id")),
        ({"image": BINARY, "id": pa.uuid(), "path": TEXT}, Column("id")),
        ({"image": BINARY, "id": pa.binary(16)}, Column("id")),
        ({"image": BINARY, "filename": BINARY}, Column("filename")),
        ({"path": BINARY}, None),
        ({"image": pa.struct([("bytes", BINARY), ("path", pa.null())])}, None),
        ({"image": BINARY, "id": pa.list_(TEXT)}, None),
    ],
)
def test_the_column_of_keys(columns: dict[str, pa.DataType], key: Column | None) -> None:
    assert choose(**columns).key == key


@pytest.mark.parametrize(
    ("columns", "mask"),
    [
        ({"image": STRUCT, "label": STRUCT}, Column("label", "bytes")),
        ({"image": STRUCT, "label": NUMBER, "annotation": BINARY}, Column("annotation")),
        ({"image": STRUCT, "road_mask": BINARY}, Column("road_mask")),
    ],
)
def test_the_column_of_masks(columns: dict[str, pa.DataType], mask: Column) -> None:
    assert choose(labelled=True, **columns).mask == mask


def test_what_fits_equally_is_refused_and_names_the_flag_that_decides() -> None:
    for columns in ({"left_image": BINARY, "right_image": BINARY}, {"one": STRUCT, "two": STRUCT}):
        equal = r"part.parquet has 2 columns that fit equally, {}, {}; choose one with --image-column".format(*columns)
        with pytest.raises(ConfigError, match=equal):
            choose(**columns)
        assert choose(ColumnNames(image=list(columns)[1]), **columns).image.name == list(columns)[1]
    masks = {"image": STRUCT, "road_mask": STRUCT, "sky_mask": STRUCT}
    with pytest.raises(ConfigError, match="road_mask, sky_mask; choose one with --mask-column"):
        choose(labelled=True, **masks)
    assert choose(ColumnNames(mask="sky_mask"), labelled=True, **masks).mask == Column("sky_mask", "bytes")


def test_a_person_may_choose_what_the_rule_would_not() -> None:
    chosen = choose(ColumnNames(image="label", key="text"), label=STRUCT, image=STRUCT, text=TEXT, id=NUMBER)
    assert chosen == Columns(image=Column("label", "bytes"), key=Column("text"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (ColumnNames(image="foto"), "--image-column is 'foto', and part.parquet has no such column; its columns are "),
        (ColumnNames(image="text"), "--image-column is 'text', and part.parquet holds string there, which cannot"),
        (
            ColumnNames(key="image"),
            "--key-column is 'image', and part.parquet has other pictures or",
        ),
        (
            ColumnNames(key="label"),
            "--key-column is 'label', and part.parquet has other pictures or",
        ),
        (ColumnNames(key="score"), "holds double there, .*: it takes text, whole numbers, categories, UUIDs or bytes;"),
        (ColumnNames(mask="text"), "--mask-column is 'text'.*: it takes binary, or a struct with `bytes`;"),
    ],
)
def test_a_column_that_cannot_be_used_is_refused_with_those_there_are(names: ColumnNames, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        choose(names, labelled=True, image=STRUCT, label=STRUCT, text=TEXT, score=pa.float64())
    assert "label: struct<bytes: binary, path: string>, text: string" in str(refused.value)


def test_two_columns_of_one_name_are_refused_where_one_is_needed() -> None:
    schema = pa.schema([("image", BINARY), ("id", TEXT), ("id", NUMBER), ("x", TEXT), ("x", TEXT)])
    with pytest.raises(ConfigError, match=r"part\.parquet has 2 columns called 'id'; rename all but one of them"):
        choose_columns(schema, "part.parquet", BY_RULE)
    for names in (ColumnNames(key="x"), ColumnNames(image="id", key="image")):
        with pytest.raises(ConfigError, match=r"has 2 columns called '(x|id)'"):
            choose_columns(schema, "part.parquet", names)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.array([7, -1], NUMBER), ["7", "-1"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([UUID.bytes], pa.uuid()), [str(UUID)]),
        (pa.array([UUID.bytes, None], pa.binary(16)), [str(UUID), None]),
        (pa.array(["é".encode(), b"", b"a\\x00"]), ["é", "", "a\\x00"]),
        (pa.array([b"\xff\x00", b"\\xff00", b"\\x"]), [r"\xff00", r"\x5c7866663030", r"\x5c78"]),
        (pa.array([b"abc"], pa.binary(3)), ["abc"]),
        (pa.array(["a"], pa.string_view()), ["a"]),
    ],
)
def test_each_value_of_a_key_has_one_text(values: pa.Array, wanted: list[str | None]) -> None:
    """Through a file too, where the types of Arrow are kept beside those of Parquet."""
    assert texts(values) == wanted
    read = pq.read_table(io.BytesIO(parquet_bytes(pa.table({"id": values}), 9)))["id"]
    assert holds_keys(read.type)
    assert [text for chunk in read.chunks for text in texts(chunk)] == wanted


def test_columns_that_are_called_like_keys_and_cannot_be_are_named() -> None:
    said = "(`id` holds bool, `key` holds double, and keys are text, whole numbers, categories, UUIDs or bytes)"
    chosen = choose(image=BINARY, id=pa.bool_(), key=pa.float64(), name=TEXT, url=pa.float32())
    assert str(chosen) == f"images from column `image`, keys from `name` {said}"


def test_a_table_without_pictures_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no column of encoded images .*its columns are x: int64"):
        choose(x=NUMBER)
    with pytest.raises(
        ConfigError, match=r"not named as a mask\); its columns are label: .*; --image-column names one"
    ):
        choose(label=STRUCT)


def test_the_choice_in_words() -> None:
    words = "images from column `image`, keys from `id`, masks from column `mask`"
    assert str(choose(labelled=True, image=STRUCT, mask=STRUCT, id=NUMBER)) == words
    assert str(choose(jpg=BINARY)) == "images from column `jpg`, keys from the file's name and the row's number"
