"""How many examples Hypothesis tries."""

from hypothesis import settings

_ALL = 100
"""What Hypothesis takes by itself, which `make test` leaves as it is."""


def examples(number: int) -> int:
    """So many in `make test`; fewer in `make check` and more in `make explore`, in proportion."""
    return max(1, number * settings().max_examples // _ALL)
