"""Pictures and masks among named members of a file: those that share a name up to its first dot are a sample.

The mask is NAME.mask.png, NAME.seg.png, NAME.label.png, or NAME.png beside a picture that is no PNG. Where no member of
a sample is called NAME.jpg or the like, the names have dots themselves, as in scene_1.5.jpg.
"""

from collections.abc import Iterable, Iterator

from pipeline import storage
from pipeline.data.formats.format import Format, Location, OnUnpaired, Pair
from pipeline.data.rows import Row, printable
from pipeline.images import EXTENSIONS

_MASKS = (".mask.png", ".seg.png", ".label.png")

Sample = dict[str, Row]
"""Members by what follows the sample's name."""


def paired_by_name(
    reader: Format, entry: storage.Entry, members: Iterable[Row], on_unpaired: OnUnpaired
) -> Iterator[Pair]:
    """Pair the members of one file; every sample that has a picture or a mask gives a pair.

    Args:
        reader: fetches a member.
        entry: the file.
        members: in their order, rows of MANIFEST with the `name` of each.
        on_unpaired: is told of a sample's images that are neither its picture nor its mask.
    """
    for name, sample in _samples(members):
        image = next((suffix for suffix in sample if suffix.lower() in EXTENSIONS and suffix != ".png"), ".png")
        mask = next((suffix for suffix in (*_MASKS, ".png") if suffix in sample and suffix != image), None)
        used = {suffix: sample[suffix] for suffix in (image, mask) if suffix in sample}
        for suffix in sample:
            if suffix not in used and _end(suffix).lower() in EXTENSIONS:
                on_unpaired(f"{entry.uri}/{name}{suffix}")
        if not used:
            continue
        problem = next((row["message"] for row in used.values() if row.get("error")), None)
        if image not in used:
            problem = printable(f"there is no picture for this mask; the sample holds {', '.join(sample)}")
        at = {suffix: Location.of(reader, entry, row) for suffix, row in used.items()}
        yield Pair(printable(f"{entry.key}/{name}"), at.get(image), at.get(mask or ""), problem)


def _end(suffix: str) -> str:
    """Give the last part of a suffix, with its dot."""
    return suffix[suffix.rfind(".") :]


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
    return [part for sample in samples for part in _with_dots(*sample)]


def _with_dots(name: str, sample: Sample) -> list[tuple[str, Sample]]:
    """Give the sample, or where none of its members is called as a picture or mask, those whose names go on."""
    if any(suffix in _MASKS or suffix.lower() in EXTENSIONS for suffix in sample):
        return [(name, sample)]
    parts: dict[str, Sample] = {}
    for suffix, member in sample.items():
        end = next((mask for mask in _MASKS if suffix.endswith(mask)), _end(suffix))
        parts.setdefault(name + suffix.removesuffix(end), {})[end] = member
    return list(parts.items())
