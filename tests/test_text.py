"""Text files that people write, in the encodings that editors store them in."""

import pytest

from pipeline import storage
from pipeline.batch.monitoring.cost import read_prices
from pipeline.data.labelled import list_pairs
from pipeline.errors import ConfigError
from pipeline.text import decode

TEXT = "gpu: 3 # Straße\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_utf_8_and_utf_16_are_read_without_their_mark(encoding, tmp_path):
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    assert decode((mark + TEXT).encode(encoding), "prices.yaml") == TEXT
    (tmp_path / "prices.yaml").write_bytes((mark + TEXT).encode(encoding))
    assert read_prices(str(tmp_path / "prices.yaml")) == {"gpu": 3}
    names = f"{mark}2007_000033\n2007_000042\n"
    storage.put_whole(f"{tmp_path}/ImageSets/Segmentation/val.txt", names.encode(encoding))
    assert [pair.key for pair in list_pairs(str(tmp_path), "voc", "val")] == ["2007_000033", "2007_000042"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a\nStraße\n".encode("latin-1"), "is not text in UTF-8: see line 2; save it as UTF-8"),
        ("ab".encode("utf-16-le"), "it has null characters; save it as UTF-8"),
        (b"\xff\xfea", "is not text in UTF-8: see line 1"),
    ],
)
def test_other_encodings_are_refused_by_name(data, message, tmp_path):
    listed = f"{tmp_path}/ImageSets/Segmentation/val.txt"
    storage.put_whole(listed, data)
    with pytest.raises(ConfigError, match=message) as refused:
        list_pairs(str(tmp_path), "voc", "val")
    assert str(refused.value).startswith(f"{listed} is")
