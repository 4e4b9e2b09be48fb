"""What the native core does beyond parity: labels from logits, pruning, windows, threads, odd input and refusals."""

import dataclasses
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CRFError
from pipeline.geometry import aligned
from pipeline.logits import grid_size, softmax, upsample
from pipeline.refine import Argmax, refine_in_tiles
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.refine.crf.native import NativeCRF
from tests.helpers.photographs import PHOTOGRAPHS, RELEASED, SMOOTHER, logits_for, picture, probabilities_for


@pytest.mark.parametrize("params", [RELEASED, SMOOTHER])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("certainty", [1, 3])
def test_the_default_settings_keep_9999_of_10000_labels(name, params, certainty):
    image = picture(name, 375, 500)
    logits = certainty * logits_for(image, 21)
    every = DenseCRF(params, prune=0).label(image, logits, aligned(8))
    default = DenseCRF(params).label(image, logits, aligned(8))
    assert (every.best == default.best).mean() >= 0.9999
    probabilities = softmax(upsample(logits, 375, 500, aligned(8)))
    assert (every.kept, default.kept) == (21, int((probabilities.max(axis=(1, 2)) >= 1e-2).sum()))


def test_the_default_settings_keep_9999_of_10000_labels_where_labels_have_costs():
    params = dataclasses.replace(RELEASED, label_costs=(0, 1, 0.5, 1, 1, 1.5, 0) * 3)
    image = picture("coffee", 375, 500)
    logits = logits_for(image, 21)
    every = DenseCRF(params, prune=0).label(image, logits, aligned(8))
    assert (every.best == DenseCRF(params).label(image, logits, aligned(8)).best).mean() >= 0.9999


@pytest.mark.parametrize("labels", [1, 3, 11, 30])
def test_labels_from_logits_are_those_of_the_upsampled_probabilities(labels):
    image = picture("rocket", 61, 83)
    logits = logits_for(image, labels)
    crf = DenseCRF(prune=0)
    posterior = crf(image, softmax(upsample(logits, 61, 83, aligned(8))))
    best, winning, kept = crf.label(image, logits, aligned(8))
    assert kept == labels
    np.testing.assert_array_equal(best, posterior.argmax(axis=0))
    np.testing.assert_allclose(winning, posterior.max(axis=0), atol=1e-5)
    assert (best.dtype, winning.dtype) == (np.uint8, np.float32)


def test_a_window_reads_its_part_of_the_logits():
    image = picture("coffee", 80, 100)
    logits = logits_for(image, 4)
    crf = DenseCRF(CRFParams(iterations=0), prune=0)
    whole = crf.label(image, logits, aligned(8)).best
    part = crf.label(image[13:50, 21:90], logits, aligned(8), 13, 21).best
    np.testing.assert_array_equal(part, whole[13:50, 21:90])


def test_labels_that_fade_on_the_way_are_left_out_from_there_on():
    image = picture(height=60, width=70)
    probabilities = probabilities_for(image, 9)
    probabilities[6:] = 0.011 * probabilities[:6].sum(axis=0)
    probabilities /= probabilities.sum(axis=0)
    pruned, every = DenseCRF()(image, probabilities), DenseCRF(prune=0)(image, probabilities)
    at_first = DenseCRF(CRFParams(iterations=1))(image, probabilities)
    assert at_first.any(axis=(1, 2)).all()
    assert not pruned[6:].any()
    assert 0 < every[6:].max() < 1e-2
    assert (pruned.argmax(axis=0) == every.argmax(axis=0)).mean() > 0.999


@pytest.mark.parametrize("weak", [[1, 4], [0], [0, 1, 5]])
def test_labels_that_cannot_win_get_the_posterior_0_and_change_nothing(weak):
    image = picture(height=60, width=70)
    probabilities = probabilities_for(image, 6)
    probabilities[weak] = 1e-7
    probabilities /= probabilities.sum(axis=0)
    pruned, every = DenseCRF()(image, probabilities), DenseCRF(prune=0)(image, probabilities)
    assert not pruned[weak].any()
    np.testing.assert_allclose(pruned, every, atol=1e-3)
    np.testing.assert_array_equal(pruned.argmax(axis=0), every.argmax(axis=0))


def test_the_most_probable_label_stays_where_all_are_weak():
    image = picture(height=20, width=30)
    mask = refine_in_tiles(image, np.zeros((182, 4, 5), np.float16), aligned(8), DenseCRF(prune=1)).mask
    assert not mask.any()  # the first of equals


def test_a_picture_of_six_megapixels():
    image = np.tile(picture(height=200, width=300), (10, 10, 1))
    probabilities = np.tile(probabilities_for(image[:200, :300], 2), (1, 10, 10))
    params = dataclasses.replace(SMOOTHER, iterations=1, gaussian_weight=0)
    expected = DenseCRF(params, "pydensecrf")(image, probabilities)
    np.testing.assert_allclose(DenseCRF(params, prune=0)(image, probabilities), expected, rtol=0, atol=1e-4)


def test_threads_take_turns_on_one_crf_and_the_interpreter_goes_on():
    images = [picture(name, 60 + 10 * n, 80) for n, name in enumerate(PHOTOGRAPHS)]
    crf = DenseCRF()
    alone = [DenseCRF().label(image, logits_for(image), aligned(8))[0] for image in images]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: crf.label(image, logits_for(image), aligned(8))[0], images * 5))
    for index, mask in enumerate(together):
        np.testing.assert_array_equal(mask, alone[index % 4])


def test_the_interpreter_lock_is_released():
    image = picture(height=375, width=500)
    probabilities = probabilities_for(image, 21)
    crf = NativeCRF(RELEASED, prune=0)  # DenseCRF's checks release it by themselves
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # a thread gives the lock up of itself, or keeps it
    try:
        working = threading.Thread(target=crf.posterior, args=(image, probabilities))
        working.start()
        assert working.is_alive()  # this line is reached while the core is at work
        working.join()
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("backend", ["native", "pydensecrf"])
@pytest.mark.parametrize("kind", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", np.longdouble])
def test_floats_of_every_width_and_byte_order_are_read_as_the_numbers_they_are(kind, backend):
    image = picture(height=30, width=40)
    logits, probabilities = logits_for(image, 5), probabilities_for(image, 5).astype(np.float16)
    crf = DenseCRF(CRFParams(iterations=2), backend)
    expected = crf.label(image, logits, aligned(8))
    np.testing.assert_array_equal(crf.label(image, logits.astype(kind), aligned(8)).best, expected.best)
    found, wanted = (crf(image, values) for values in (probabilities.astype(kind), probabilities))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(refine_in_tiles(image, logits.astype(kind), aligned(8), crf).mask, expected.best)
    np.testing.assert_array_equal(
        refine_in_tiles(image, logits.astype(kind), aligned(8), Argmax()).mask,
        refine_in_tiles(image, logits, aligned(8), Argmax()).mask,
    )


@pytest.mark.parametrize("backend", ["native", "pydensecrf"])
@pytest.mark.parametrize("kind", ["?", "u1", "<i4", ">i8", "<c8", "O", "V2", "M8[s]", "S4"])
def test_what_is_no_float_is_refused(kind, backend):
    image = picture(height=30, width=40)
    crf, grid, full = DenseCRF(backend=backend), np.zeros((2, 5, 6), kind), np.zeros((2, 30, 40), kind)
    with pytest.raises(CRFError, match="the CRF takes logits"):
        crf.label(image, grid, aligned(8))
    with pytest.raises(CRFError, match="the CRF takes probabilities"):
        crf(image, full)
    for refiner in (crf, Argmax()):
        with pytest.raises(CRFError, match=r"takes logits \(C, 5, 6\) float"):
            refine_in_tiles(image, grid, aligned(8), refiner)


@pytest.mark.parametrize("value", [1e39, np.longdouble("1e400"), np.inf, np.nan])
def test_what_float32_cannot_hold_is_refused(value):
    image = picture(height=30, width=40)
    for shape, call in (((2, 30, 40), DenseCRF()), ((2, 5, 6), lambda i, x: DenseCRF().label(i, x, aligned(8)))):
        values = np.full(shape, 0.5, np.longdouble)
        values[1, 2, 3] = value
        with pytest.raises(CRFError, match="finite in float32"):
            call(image, values)
    with pytest.raises(CRFError, match="finite in float32"):
        refine_in_tiles(image, values, aligned(8), Argmax())


def test_what_the_lattice_cannot_number_is_refused():
    with pytest.raises(CRFError, match=r"1x4000.*standard deviations.*tiles"):
        DenseCRF(CRFParams(gaussian_xy=0.1))(np.zeros((1, 4000, 3), np.uint8), np.ones((2, 1, 4000)))


def test_too_many_labels_are_refused():
    image = np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(CRFError, match="at most 256 labels, not 257"):
        DenseCRF()(image, np.full((257, 2, 3), 1 / 257))


def test_a_missing_core_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dense_crf_core", None)
    with pytest.raises(CRFError, match=r"compiled core cannot be loaded.*pydensecrf"):
        DenseCRF()


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_input_gives_probabilities(data):
    height, width = (data.draw(st.integers(1, 40)) for _ in range(2))
    labels, stride = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([1, 4, 8]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    top, left = (data.draw(st.integers(0, 20)) for _ in range(2))
    shape = (labels, grid_size(top + height, stride), grid_size(left + width, stride))
    spread = data.draw(st.sampled_from([0, 1, 10, 1e4]))
    logits = (rng.normal(size=shape) * spread).astype(data.draw(st.sampled_from([np.float16, np.float32, np.float64])))
    image = rng.integers(0, data.draw(st.sampled_from([1, 3, 256])), (height, width, 3), dtype=np.uint8)
    if data.draw(st.booleans()):
        image, logits = np.asfortranarray(image), logits[::-1, ::-1].copy()[::-1, ::-1]
    params = CRFParams(
        iterations=data.draw(st.integers(0, 9)),
        gaussian_weight=data.draw(st.sampled_from([0, 3, 1e5])),
        gaussian_xy=data.draw(st.floats(0.1, 1e5)),
        bilateral_weight=data.draw(st.sampled_from([0, 4, 1e5])),
        bilateral_xy=data.draw(st.floats(0.1, 1e5)),
        bilateral_rgb=data.draw(st.floats(0.1, 1e5)),
        normalization=data.draw(st.sampled_from(["symmetric", "after"])),
    )
    crf = DenseCRF(params, prune=data.draw(st.sampled_from([0, 1e-2, 1])))
    best, winning, kept = crf.label(image, logits, aligned(stride), top, left)
    assert 1 <= kept <= labels
    assert best.max() < labels
    assert ((winning > 0.999 / labels) & (winning < 1.00001)).all()
    posterior = crf(image, softmax(upsample(logits, height, width, aligned(stride), top, left)))
    np.testing.assert_allclose(posterior.sum(axis=0), 1, atol=1e-5)
