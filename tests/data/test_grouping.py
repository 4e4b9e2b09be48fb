"""Rows that are held together fit in memory together."""

import numpy as np

from pipeline.data.grouping import MAX_FETCHED_BYTES, decoded_together, fetched_together
from tests.helpers.pictures import jpeg


def test_large_files_are_fetched_few_at_a_time_and_small_ones_by_the_dozen() -> None:
    half = MAX_FETCHED_BYTES // 2
    lengths = [1, half, half, 3 * half, None, *[10] * 200]
    found = [[row["length"] for row in some] for some in fetched_together({"length": n} for n in lengths)]
    assert found[:4] == [[1, half], [half], [3 * half], [None, *[10] * 63]]
    assert [n for some in found for n in some] == lengths


def test_pictures_are_decoded_up_to_a_number_of_pixels() -> None:
    large = {"image": jpeg(np.zeros((4000, 4000, 3), np.uint8))}
    small = {"image": jpeg(np.zeros((40, 40, 3), np.uint8))}
    assert [len(some) for some in decoded_together([large, large, small, large, small])] == [2, 3]
