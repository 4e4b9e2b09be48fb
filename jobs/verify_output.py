"""Recount an output: `python jobs/verify_output.py URI [--repair]`.

The last line of stdout is the count, one JSON object; problems go to stderr, a line each. Exit codes: 0 sound; 1 there
are problems, or were before --repair set their files aside; 2 the output cannot be read.
"""

import argparse
import json
import sys
from dataclasses import asdict

from pipeline import masks, storage
from pipeline.errors import PipelineError


def main(argv: list[str] | None = None) -> int:
    """Parse the flags, recount, print; returns the exit code."""
    parser = argparse.ArgumentParser(description="Recount an output of segment_bucket.")
    parser.add_argument("uri", help="what the run was given as --output")
    parser.add_argument(
        "--repair", action="store_true", help="move bad files to URI/_quarantine; the next run does their images again"
    )
    flags = parser.parse_args(argv)
    try:
        uri = storage.normalize(storage.Uri(flags.uri))
        verification = masks.verify(uri)
        for problem in verification.problems:
            print(f"{storage.redact(problem.uri)}: {problem.what}", file=sys.stderr)
        if flags.repair:
            for moved in masks.quarantine(uri, verification):
                print(f"set aside: {storage.redact(moved)}", file=sys.stderr)
    except PipelineError as error:
        print(f"verify_output: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(verification) | {"problems": len(verification.problems)}), flush=True)
    return 1 if verification.problems else 0


if __name__ == "__main__":
    sys.exit(main())
