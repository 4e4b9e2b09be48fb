"""Compare the logits of two networks that should be one."""

from torch import Tensor


def assert_same_logits(output: Tensor, expected: Tensor, relative: float) -> None:
    """Assert the same shape, and differences of at most `relative` of the largest value."""
    assert output.shape == expected.shape
    assert float((output - expected).abs().max()) <= relative * float(expected.abs().max())
