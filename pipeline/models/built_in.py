"""The models that are shipped with the package, by name."""

from pathlib import Path

BUILT_IN = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"
"""Of the project's own layout of weights."""


def built_in_names() -> list[str]:
    """List the names of the models that are shipped with the package."""
    return sorted(path.stem for path in BUILT_IN.glob(f"*{SUFFIX}"))
