"""What jobs ask of their worker and what workers offer, as text.

The text of a placement is a part of what makes a lane, so it is short and has one form. Amounts are
written by people: `2` or `0.5` processors, `4GiB` of memory, `1` of anything else.
"""

import functools
import json
import re
from collections.abc import Iterable

from jobservice.model.worker import ANYWHERE, Placement, Resources

_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode
_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KiB": 2**10, "MiB": 2**20,
    "GiB": 2**30, "TiB": 2**40, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_BYTES = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)")
_CPU = re.compile(r"\d+(?:\.\d{1,3})?")


def placement_text(placement: Placement) -> str:
    """Labels, processors, memory and counts as JSON; empty where nothing is asked for."""
    if placement == ANYWHERE:
        return ""
    asked = placement.resources
    return _dump([dict(placement.labels), asked.cpu_millis, asked.memory_bytes, dict(asked.counts)])


@functools.lru_cache(maxsize=4096)
def placement_of(text: str) -> Placement:
    """The value of `placement_text`."""
    if not text:
        return ANYWHERE
    labels, *amounts = json.loads(text)
    return Placement(labels, Resources(*amounts))


def amount_of(name: str, text: str) -> float:
    """An amount as it is written: processors, bytes, or a count.

    Raises:
        ValueError: it is none; says what would be right.
    """
    if name == "cpu":
        if not _CPU.fullmatch(text):
            raise ValueError(f"{text!r} is no number of processors; write 2 or 0.5")
        return float(text)
    if name == "memory":
        match = _BYTES.fullmatch(text)
        if match is None or match[2] not in _UNITS:
            raise ValueError(f"{text!r} is no size; write 4GiB, 512MiB or a number of bytes")
        return int(float(match[1]) * _UNITS[match[2]])
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no count of {name}; write a whole number")
    return int(text)


def pairs_of(text: str) -> dict[str, str]:
    """The pairs of `NAME=VALUE,NAME=VALUE`; empty for an empty text.

    Raises:
        ValueError: there is something else in it.
    """
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ValueError(f"{part!r} is not NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def resources_of(amounts: Iterable[tuple[str, float]]) -> Resources:
    """Resources out of their names and amounts."""
    counts = dict(amounts)
    cpu, memory = counts.pop("cpu", 0), counts.pop("memory", 0)
    whole = {name: int(amount) for name, amount in sorted(counts.items()) if amount}
    return Resources(round(cpu * 1000), int(memory), whole)


def resources_words(resources: Resources) -> str:
    """Resources for people, such as `cpu 1.5, memory 4 GiB, gpu 1`."""
    words = []
    if resources.cpu_millis:
        words.append(f"cpu {resources.cpu_millis / 1000:g}")
    if resources.memory_bytes:
        words.append(f"memory {size_words(resources.memory_bytes)}")
    words += [f"{name} {count}" for name, count in sorted(resources.counts.items())]
    return ", ".join(words)


def size_words(size: int) -> str:
    """Bytes for people: `4 GiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _UNITS[unit]:
            return f"{size / _UNITS[unit]:.4g} {unit}"
    return f"{size} bytes"
