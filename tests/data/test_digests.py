"""Keys as digests: the same answers as a set of the keys gives."""

import random

from pipeline.data.digests import DigestSet, identity


def test_key_and_version_are_not_run_together() -> None:
    assert identity("a1", "2") != identity("a", "12") != identity("2", "a1")


def test_a_growing_set_tells_what_is_new() -> None:
    rng, known, seen = random.Random(1), set[str](), DigestSet()
    for _ in range(200):
        keys = [str(rng.randrange(3000)) for _ in range(rng.choice([0, 1, 7, 100]))]
        new = []
        for key in keys:
            new.append(key not in known)
            known.add(key)
        assert seen.add(keys).tolist() == new


def test_it_is_searched_in_few_runs() -> None:
    seen = DigestSet()
    for n in range(1000):
        seen.add([str(n)])
    assert len(seen._runs) <= 10
