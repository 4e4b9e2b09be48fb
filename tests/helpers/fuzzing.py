"""How many inputs the fuzz tests try, and how."""

from hypothesis import HealthCheck, Phase, settings


def tried(inputs: int) -> settings:
    """Try so many inputs; a failure prints what gives it again."""
    return settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
