"""Random filters, and the small pools that their values and those of random jobs come from."""

import datetime as dt

from hypothesis import strategies as st

from jobservice.clock import EPOCH, to_us
from jobservice.model.filter import (
    FIELDS,
    AllOf,
    AnyOf,
    Comparator,
    Compare,
    Filter,
    Has,
    Not,
    Shape,
)
from jobservice.model.lifecycle import Reason, State

NOW = EPOCH + dt.timedelta(days=20_000)
TEXTS = ["", "a", "ab", "a*", "b", 'q"\\', "é", "z z", "\U0010ffff", "\U0010ffff\U0010ffff", "AND"]
"""What names and values of labels are; a queue is one of the plain ones."""
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
"""What a message can carry, and PostgreSQL keeps."""
QUEUES = ["a", "ab", "b"]
KEYS = ["a", "b.c", "team"]
NUMBERS = [-50, -1, 0, 1, 2, 50]
INSTANTS = [to_us(NOW + dt.timedelta(seconds=n)) for n in range(-1, 6)]

_PLAIN = st.sampled_from(sorted(FIELDS.keys() - {"labels"}))
_PLACES = st.one_of(
    st.tuples(_PLAIN, st.just("")), st.tuples(st.just("labels"), st.sampled_from(KEYS))
)


@st.composite
def _compares(draw: st.DrawFn) -> Filter:
    field, key = draw(_PLACES)
    shape = FIELDS[field].kind.shape
    comparator = draw(st.sampled_from(Comparator))
    if shape is Shape.TEXT:
        text = draw(st.sampled_from(TEXTS) | st.text(CHARACTERS, max_size=3))
        is_prefix = bool(text) and comparator is Comparator.EQ and draw(st.booleans())
        return Compare(field, comparator, text, key, is_prefix)
    if shape is Shape.NAME:
        kinds = State if field == "state" else Reason
        number = int(draw(st.sampled_from([each for each in kinds if each])))
        return Compare(field, Comparator.EQ, number)
    return Compare(
        field, comparator, draw(st.sampled_from(NUMBERS if shape is Shape.NUMBER else INSTANTS))
    )


_LEAVES = _compares() | _PLACES.map(lambda place: Has(*place))
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    _LEAVES,
    lambda terms: (
        terms.map(Not)
        | st.lists(terms, min_size=2, max_size=3).map(lambda found: AllOf(tuple(found)))
        | st.lists(terms, min_size=2, max_size=3).map(lambda found: AnyOf(tuple(found)))
    ),
    max_leaves=6,
)
