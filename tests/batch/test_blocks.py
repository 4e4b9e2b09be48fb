"""Blocks are large where that saves calls, and small where each image takes long."""

import pytest

from pipeline.batch.blocks import block_bytes, logits_bytes
from pipeline.geometry import Resize, aligned, half_pixels
from pipeline.refine import RefineDevice
from pipeline.runtime.plan import GIB, Node, Plan, plan

MIB = 1024**2


def planned(images: int, gpus: int, cpus: int = 8, refine_on: RefineDevice = "cpu", with_logits: int = 0) -> Plan:
    whole = plan([Node(cpus=cpus, gpus=gpus, memory=64 * GIB)], GIB, refine_on=refine_on)
    return whole.for_images(images, MIB // 10, with_logits)


@pytest.mark.parametrize(
    ("images", "gpus", "wanted"),
    [
        (10, 0, MIB / 4),
        (640, 0, MIB),
        (10_000, 0, 32 * MIB / 10),
        (100_000, 0, 32 * MIB / 10),
        (10_000, 1, 156.25 * MIB / 10),
        (100_000, 1, 256 * MIB / 10),
    ],
)
def test_a_block_has_as_many_images_as_a_worker_takes_but_no_more_than_a_64th(
    images: int, gpus: int, wanted: float
) -> None:
    made = planned(images, gpus)
    assert block_bytes(images, MIB // 10, 0, made) == pytest.approx(wanted, rel=1e-4)


def test_a_block_of_logits_is_what_a_core_takes_at_once_where_gpus_hand_them_on() -> None:
    made = planned(10**6, 1, with_logits=2 * MIB // 10)
    assert made.refiner_batch == 128
    assert block_bytes(10**6, MIB // 10, 2 * MIB // 10, made) == pytest.approx(128 * 3 * MIB / 10, rel=1e-4)


@pytest.mark.parametrize("refine_on", ["auto", "cuda"])
def test_logits_count_for_nothing_where_gpus_refine(refine_on: RefineDevice) -> None:
    made = planned(10**6, 1, refine_on=refine_on)
    assert block_bytes(10**6, MIB // 10, 50 * MIB, made) == made.segmenter_batch * (MIB // 10)


def test_each_of_many_gpus_has_eight_blocks_to_do() -> None:
    made = planned(100_000, 100, 200)
    size = block_bytes(100_000, MIB // 10, 2 * MIB, made)
    assert size == pytest.approx(125 * MIB / 10, rel=1e-4)


def test_logits_of_a_photograph_are_about_what_they_are() -> None:
    """A JPEG of 480x360 pixels has some 43 KB: 11 labels at every second pixel, 2 bytes each, are 960 KB."""
    assert logits_bytes(11, aligned(2), 480 * 360 // 4) == pytest.approx(11 * 241 * 181 * 2, rel=0.01)


def test_logits_of_pictures_that_are_resized_have_the_size_that_the_network_sees() -> None:
    resized = half_pixels(4, Resize(sides=(512, 512)))
    assert {logits_bytes(150, resized, size) for size in (0, 1000, 10**7)} == {150 * 128 * 128 * 2}


def test_logits_of_images_of_unknown_size_are_few() -> None:
    assert logits_bytes(21, aligned(8), 0) == 42
