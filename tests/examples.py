"""How many examples Hypothesis tries."""

from hypothesis import settings

_ALL = 100
"""What Hypothesis takes by itself, which `make test` leaves as it is."""


def examples(number: int) -> int:
    """So many in `make test`, and fewer, in proportion, in `make check`."""
    return max(1, number * settings().max_examples // _ALL)
