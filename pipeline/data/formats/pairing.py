"""Pictures and masks among named members of a file: those that share a name up to its first dot are a sample.

The mask is NAME.mask.png, NAME.seg.png, NAME.label.png, or NAME.png beside a picture that is no PNG.
"""

from collections.abc import Iterable, Iterator

from pipeline import storage
from pipeline.data.formats.format import Format, Location, Pair
from pipeline.data.rows import Row
from pipeline.images import EXTENSIONS

_MASKS = (".mask.png", ".seg.png", ".label.png")

Sample = dict[str, Row]
"""Members by what follows the sample's name."""


def paired_by_name(reader: Format, entry: storage.Entry, members: Iterable[Row]) -> Iterator[Pair]:
    """Pair the members of one file; every sample that has a picture or a mask gives a pair.

    Args:
        reader: fetches a member.
        entry: the file.
        members: in their order, rows of MANIFEST with the `name` of each.
    """
    for name, sample in _samples(members):
        image = next((suffix for suffix in sample if suffix.lower() in EXTENSIONS and suffix != ".png"), ".png")
        mask = next((suffix for suffix in (*_MASKS, ".png") if suffix in sample and suffix != image), None)
        used = {suffix: sample[suffix] for suffix in (image, mask) if suffix in sample}
        if not used:
            continue
        problem = next((row["message"] for row in used.values() if row.get("error")), None)
        if image not in used:
            problem = f"there is no picture for this mask; the sample holds {', '.join(sample)}"
        at = {suffix: Location.of(reader, entry, row) for suffix, row in used.items()}
        yield Pair(f"{entry.key}/{name}", at.get(image), at.get(mask or ""), problem)


def _samples(members: Iterable[Row]) -> list[tuple[str, Sample]]:
    """Name and members of each sample. A name whose members come a second time is a second sample."""
    samples: list[tuple[str, Sample]] = []
    latest: dict[str, Sample] = {}
    for member in members:
        folder, slash, name = member["name"].rpartition("/")
        stem, dot, suffix = name.partition(".")
        if not stem:
            continue
        whole = f"{folder}{slash}{stem}"
        sample = latest.get(whole)
        if sample is None or f"{dot}{suffix}" in sample:
            latest[whole] = sample = {}
            samples.append((whole, sample))
        sample[f"{dot}{suffix}"] = member
    return samples
