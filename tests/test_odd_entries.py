"""What lies in a folder beside its files: hidden names, links, what may not be read, and what vanishes meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline import storage
from pipeline.data.files import input_files
from pipeline.errors import StorageError
from pipeline.storage import Skipped, local


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return str(request.getfixturevalue("bucket")) + "/_pre"
    return str(tmp_path / "_pre") if request.param == "local" else f"memory://{tmp_path.name}/_pre"


def listed(uri: str) -> tuple[list[str], list[tuple[Skipped, str]]]:
    """Keys, and what is left out, by its URI."""
    skipped: list[tuple[Skipped, str]] = []
    keys = [entry.key for entry in storage.list_files(uri, lambda why, path: skipped.append((why, path)))]
    return sorted(keys), sorted(skipped)


def test_names_of_other_tools_are_no_files_of_the_input(root: str) -> None:
    """The input itself may be called so; a hidden folder is told once, whatever is in it."""
    hidden = ["_SUCCESS", "_temporary/0/a.jpg", "_temporary/0/b.jpg", "day/_delta_log/0.json", "day/.hive/c.jpg"]
    for key in ("a.jpg", "day/b_.jpg", "__MACOSX/a.jpg", ".part.jpg", *hidden):
        storage.put_whole(f"{root}/{key}", b"x")
    names = [".part.jpg", "_SUCCESS", "__MACOSX", "_temporary", "day/.hive", "day/_delta_log"]
    assert listed(root) == (["a.jpg", "day/b_.jpg"], [(Skipped.HIDDEN, f"{root}/{name}") for name in names])
    assert listed(f"{root}/_temporary/0")[0] == ["a.jpg", "b.jpg"]
    assert listed(f"{root}/_SUCCESS")[0] == ["_SUCCESS"]
    assert listed(f"{root}/**/*.jpg")[0] == ["a.jpg", "day/b_.jpg"]
    assert listed(f"{root}/*/_*/*.json")[0] == ["day/_delta_log/0.json"]


def test_pictures_of_cameras_that_begin_with_an_underscore_are_input(root: str) -> None:
    """Nikon and others name pictures in Adobe RGB so; the mark of a folder, or a dot, hides all the same."""
    for key in ("_DSC1234.JPG", "day/_MG_1.tif", "_tmp/a.jpg", "_a.tar", "_a.parquet", "_b.jpg/c.jpg", "._d.jpg"):
        storage.put_whole(f"{root}/{key}", b"x")
    skipped: list[str] = []
    keys = sorted(entry.key for entry in input_files(root, lambda why, uri: skipped.append(uri)))
    assert keys == ["_DSC1234.JPG", "day/_MG_1.tif"]
    assert sorted(skipped) == [f"{root}/{name}" for name in ("._d.jpg", "_a.parquet", "_a.tar", "_b.jpg", "_tmp")]


def test_links_are_followed(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/elsewhere/sub/a.jpg", b"x")
    storage.put_whole(f"{tmp_path}/in/b.jpg", b"y")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "twin").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "c.jpg").symlink_to("b.jpg")
    (tmp_path / "input").symlink_to("in")
    keys = ["b.jpg", "c.jpg", "linked/sub/a.jpg", "twin/sub/a.jpg"]
    assert listed(f"{tmp_path}/in") == (keys, [])
    assert listed(f"{tmp_path}/input") == (keys, [])


def test_a_link_that_leads_nowhere_or_round_costs_nothing_else(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/sub/a.jpg", b"x")
    for link, target in {
        "self.jpg": "self.jpg",
        "gone.jpg": "nowhere.jpg",
        "under.jpg": "sub/a.jpg/x",
        "sub/up": "..",
        "sub/here": ".",
    }.items():
        (tmp_path / "in" / link).symlink_to(target)
    broken = [(Skipped.BROKEN_LINK, f"{tmp_path}/in/{name}") for name in ("gone.jpg", "self.jpg", "under.jpg")]
    looping = [(Skipped.LOOPING_LINK, f"{tmp_path}/in/{name}") for name in ("sub/here", "sub/up")]
    assert listed(f"{tmp_path}/in") == (["sub/a.jpg"], broken + looping)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", b"x")
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    assert listed(f"{tmp_path}/in") == (["a.jpg"], [(Skipped.SPECIAL, f"{tmp_path}/in/pipe.jpg")])


def test_a_folder_without_permission_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input itself has to be readable. Root may read all, so the refusal is played."""
    for key in ("a.jpg", "lost+found/b.jpg", "z/c.jpg"):
        storage.put_whole(f"{tmp_path}/in/{key}", b"x")
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if path.endswith("lost+found"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(local.os, "scandir", refusing)
    assert listed(f"{tmp_path}/in") == (["a.jpg", "z/c.jpg"], [(Skipped.FORBIDDEN, f"{tmp_path}/in/lost+found")])
    with pytest.raises(StorageError, match="access denied"):
        listed(f"{tmp_path}/in/lost+found")


def test_what_vanishes_while_it_is_listed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a.jpg", "gone.jpg", "sub/b.jpg", "z/c.jpg"):
        storage.put_whole(f"{tmp_path}/in/{key}", b"x")
    scandir = os.scandir

    class Vanishing:
        """Lists a folder, and removes some of what it has listed before that is looked at."""

        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)
            for entry in self.entries:
                if entry.name == "gone.jpg":
                    os.unlink(entry.path)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            for entry in self.entries:  # each folder is entered once this one has been read
                if entry.name == "sub":
                    os.unlink(f"{entry.path}/b.jpg")
                    os.rmdir(entry.path)

        def close(self) -> None:
            """As the folder itself is tried."""

    monkeypatch.setattr(local.os, "scandir", Vanishing)
    monkeypatch.setattr(Vanishing, "close", lambda self: storage.put_whole(f"{tmp_path}/in/gone.jpg", b"x"))
    assert listed(f"{tmp_path}/in") == (["a.jpg", "z/c.jpg"], [])


def test_a_folder_that_a_remote_storage_refuses_ends_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec's own walk would leave its files out in silence; one that has vanished is none."""
    for key in ("a.jpg", "sub/b.jpg", "z/c.jpg"):
        storage.put_whole(f"memory://{tmp_path.name}/{key}", b"x")
    kind = fsspec.get_filesystem_class("memory")
    ls = kind.ls

    def failing(error: type[OSError]) -> Any:
        def listed_or_not(self: Any, path: str, *args: Any, **options: Any) -> Any:
            if path.endswith("/sub"):
                raise error(path)
            return ls(self, path, *args, **options)

        return listed_or_not

    monkeypatch.setattr(kind, "ls", failing(PermissionError))
    with pytest.raises(StorageError, match="access denied"):
        listed(f"memory://{tmp_path.name}")
    monkeypatch.setattr(kind, "ls", failing(FileNotFoundError))
    assert listed(f"memory://{tmp_path.name}")[0] == ["a.jpg", "z/c.jpg"]
