"""Which files of a folder belong to a split, by their names."""

_AFTER_SPLIT = ("-", "_", ".")


def in_split(key: str, split: str) -> bool:
    """Tell whether a file lies in a folder SPLIT or is called SPLIT.ext or SPLIT-*.ext, or with _ or . for -."""
    *folders, name = key.split("/")
    stem = name.rpartition(".")[0]
    return split in folders or stem == split or stem.startswith(tuple(split + sign for sign in _AFTER_SPLIT))
