"""Ids: `j` and 26 base32 letters of a UUIDv7 (RFC 9562), so that they sort by creation.

The alphabet is RFC 4648's extended hex in lower case: text order is number order, and an id is
valid in a DNS label, a file name and a URL as it stands.
"""

import functools
from typing import NewType

JobId = NewType("JobId", str)

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
ID_LENGTH = 27
RANDOM_BITS = 74


def job_id(unix_ms: int, randomness: int) -> JobId:
    """The id of a job made at `unix_ms`, told apart by the low 74 bits of `randomness`."""
    return JobId(_identity("j", unix_ms, randomness))


def operation_id(unix_ms: int, randomness: int) -> str:
    """The id of an operation: as a job's, with an `o` in front."""
    return _identity("o", unix_ms, randomness)


def _identity(letter: str, unix_ms: int, randomness: int) -> str:
    low = randomness & (1 << 60) - 1
    pairs = _PAIRS
    return (
        _head(letter, unix_ms, randomness >> 60 & (1 << RANDOM_BITS - 60) - 1)
        + pairs[low >> 50]
        + pairs[low >> 40 & 1023]
        + pairs[low >> 30 & 1023]
        + pairs[low >> 20 & 1023]
        + pairs[low >> 10 & 1023]
        + pairs[low & 1023]
    )


@functools.lru_cache(maxsize=64)
def _head(letter: str, unix_ms: int, random: int) -> str:
    """All but the last 60 bits, which the ids of a batch share."""
    rand_a, rand_b = random >> 2, random & 3
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 20 | 7 << 16 | rand_a << 4 | 0b10 << 2 | rand_b
    return letter + "".join([_PAIRS[value >> shift & 1023] for shift in range(60, -1, -10)])


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of a job's id (it need not exist)."""
    return _is_identity("j", text)


def is_operation_id(text: str) -> bool:
    """Whether `text` has the form of an operation's id (it need not exist)."""
    return _is_identity("o", text)


def _is_identity(letter: str, text: str) -> bool:
    return len(text) == ID_LENGTH and text[0] == letter and all(c in _ALPHABET for c in text[1:])
