"""Scenes: what a seed decides, what the truth holds, and the shards."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from pipeline import masks, storage
from pipeline.errors import ConfigError
from pipeline.scenes import CLASSES, PALETTE, scene, write_shards


@pytest.fixture(scope="module")
def scenes():
    return [scene(seed) for seed in range(24)]


def test_a_seed_decides_the_scene(scenes):
    image, truth = scene(5)
    np.testing.assert_array_equal(image, scenes[5][0])
    np.testing.assert_array_equal(truth, scenes[5][1])
    assert (image != scenes[6][0]).any()


@pytest.mark.parametrize("size", [(320, 240), (160, 120), (97, 61), (200, 300)])
def test_size_is_width_and_height(size):
    image, truth = scene(1, size)
    assert image.shape == (size[1], size[0], 3)
    assert image.dtype == np.uint8
    assert truth.shape == (size[1], size[0])
    assert truth.dtype == np.uint8


def test_every_class_occurs_and_none_rules(scenes):
    share = np.bincount(np.stack([truth for _, truth in scenes]).ravel(), minlength=len(CLASSES)) / (24 * 320 * 240)
    assert len(share) == len(CLASSES) == len(PALETTE)
    assert share.min() > 0.003
    assert share.max() < 0.4


def test_a_scene_holds_several_classes(scenes):
    assert np.median([len(np.unique(truth)) for _, truth in scenes]) >= 5


def test_parts_of_some_things_are_thinner_than_the_output_stride(scenes):
    pole = CLASSES.index("pole")
    rows = [row for _, truth in scenes for row in truth == pole if row.any()]
    assert np.median([row.sum() for row in rows]) < 8


def test_truth_changes_where_the_picture_does(scenes):
    """Colour steps across a border of the truth are several times those elsewhere: there are edges to find."""
    at_border, elsewhere = [], []
    for image, truth in scenes:
        steps = np.abs(np.diff(image.astype(np.float32), axis=1)).sum(axis=2)
        borders = truth[:, 1:] != truth[:, :-1]
        at_border.append(steps[borders].mean())
        elsewhere.append(steps[~borders].mean())
    assert np.mean(at_border) > 2.0 * np.mean(elsewhere)


def test_colour_alone_does_not_tell_the_class(scenes):
    """The nearest mean colour of a class is wrong on most pixels."""
    pixels = np.concatenate([image[::7, ::7].reshape(-1, 3) for image, _ in scenes]).astype(np.float32)
    labels = np.concatenate([truth[::7, ::7].ravel() for _, truth in scenes])
    means = np.stack([pixels[labels == label].mean(axis=0) for label in range(len(CLASSES))])
    nearest = np.linalg.norm(pixels[:, None] - means, axis=2).argmin(axis=1)
    assert (nearest == labels).mean() < 0.6


def test_shards_hold_pictures_and_the_truth_is_apart(tmp_path):
    write_shards(str(tmp_path), count=5, seed=7, per_shard=2)
    tars = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in tars] == [f"scenes-{shard:05d}.tar" for shard in range(3)]
    pictures = {}
    for path in tars:
        with tarfile.open(path) as tar:
            for member in tar:
                assert member.name not in pictures
                pictures[member.name] = tar.extractfile(member).read()
    assert sorted(pictures) == [f"scene-{seed:08d}.jpg" for seed in range(7, 12)]
    decoded = np.asarray(Image.open(io.BytesIO(pictures["scene-00000009.jpg"])))
    image, truth = scene(9)
    assert np.abs(decoded.astype(int) - image).mean() < 6
    true_masks = dict(masks.read(storage.join(str(tmp_path), "truth")))
    assert {f"{key.split('/')[1]}.jpg" for key in true_masks} == set(pictures)
    np.testing.assert_array_equal(true_masks["scenes-00001.tar/scene-00000009"], truth)


def test_the_same_scenes_make_the_same_shard(tmp_path):
    for name in ("one", "two"):
        write_shards(str(tmp_path / name), count=1)
    first, second = (tmp_path / name / "images" / "scenes-00000.tar" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_shards_of_an_earlier_call_do_not_stay_and_other_files_do(tmp_path):
    write_shards(str(tmp_path), count=4, per_shard=1)
    for other in ("scenes-00003.tar.bak", "my-scenes-00003.tar", "old/scenes-00003.tar"):
        storage.put_whole(f"{tmp_path}/images/{other}", b"x")
    write_shards(str(tmp_path), count=2, per_shard=1)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert files == [
        "images/my-scenes-00003.tar",
        "images/old/scenes-00003.tar",
        "images/scenes-00000.tar",
        "images/scenes-00001.tar",
        "images/scenes-00003.tar.bak",
        "truth/scenes-00000.parquet",
        "truth/scenes-00001.parquet",
    ]
    assert len(dict(masks.read(f"{tmp_path}/truth"))) == 2


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 1, "per_shard": 0}, {"count": 1, "seed": -1}])
def test_no_scenes_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="cannot write"):
        write_shards(str(tmp_path), **wrong)
