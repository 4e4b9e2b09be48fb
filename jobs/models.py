"""List the networks that --model takes by name: `python jobs/models.py`, or `--json` for programs.

Of each: what it was trained on, classes, licence, scores, where its weights lie, and how large they are there.
"""

import argparse
import json
import sys
from dataclasses import asdict

from pipeline.models.catalogue import Listed, adapters, catalogue


def main(argv: list[str] | None = None) -> int:
    """Print the list; returns the exit code."""
    parser = argparse.ArgumentParser(description="List the networks that --model takes by name.")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    flags = parser.parse_args(argv)
    lines = [json.dumps(asdict(one)) if flags.json else _described(one) for one in catalogue()]
    if not flags.json:
        lines += adapters()
    print("\n".join(lines))  # at once: a reader of the first lines alone, such as head, breaks nothing
    return 0


def _described(one: Listed) -> str:
    classes = f"{len(one.classes)}: {', '.join(one.classes)}" if one.classes else "none: a start for training"
    scores = "; ".join(f"{name}: {score:g}" for name, score in one.scores.items())
    size = f"{one.bytes / 1e6:.1f} MB" if one.bytes is not None else "not there yet"
    lines = {
        "trained on": one.trained_on,
        "classes": classes,
        "licence": one.licence,
        "scores": scores or "none noted",
        "weights": f"{one.place} ({size})",
    }
    return "\n".join([f"{one.name} ({one.kind})", *(f"  {name + ':':12}{value}" for name, value in lines.items())])


if __name__ == "__main__":
    sys.exit(main())
