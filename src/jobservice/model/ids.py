"""Ids: `j` and 26 base32 letters of a UUIDv7 (RFC 9562), so that they sort by creation.

The alphabet is RFC 4648's extended hex in lower case: text order is number order, and an id is
valid in a DNS label, a file name and a URL as it stands.
"""

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
    low = randomness & ((1 << RANDOM_BITS) - 1)
    rand_a, rand_b = low >> 62, low & ((1 << 62) - 1)
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | 7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
    pairs = _PAIRS
    return letter + "".join([pairs[value >> shift & 1023] for shift in range(120, -1, -10)])


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of a job's id (it need not exist)."""
    return _is_identity("j", text)


def is_operation_id(text: str) -> bool:
    """Whether `text` has the form of an operation's id (it need not exist)."""
    return _is_identity("o", text)


def _is_identity(letter: str, text: str) -> bool:
    return len(text) == ID_LENGTH and text[0] == letter and all(c in _ALPHABET for c in text[1:])
