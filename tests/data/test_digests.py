"""Keys as digests."""

from pipeline.data.digests import identity


def test_key_and_version_are_not_run_together() -> None:
    assert identity("a1", "2") != identity("a", "12") != identity("2", "a1")
