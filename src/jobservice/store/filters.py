"""Filters as conditions of SQL, with their values bound by name; the same for every store.

A condition is never NULL: what a job lacks makes a restriction false, as in `model/filter.py`, whose
`matches` says what each condition must be.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jobservice.model.filter import FIELDS, AllOf, AnyOf, Compare, Filter, Has, Not, Shape

COLUMNS: Mapping[str, str] = {
    "job_id": "jobs.job_id",
    "name": "jobs.name",
    "queue": "jobs.queue",
    "job_type": "jobs.job_type",
    "state": "jobs.state",
    "reason": "jobs.reason",
    "priority": "jobs.priority",
    "attempt_count": "jobs.attempt_count",
    "failure_count": "jobs.failure_count",
    "exit_code": "jobs.exit_code",
    "array_job_id": "jobs.array_id",
    "array_index": "jobs.array_index",
    "schedule": "jobs.schedule",
    "create_time": "jobs.created_us",
    "start_time": "jobs.started_us",
    "end_time": "jobs.ended_us",
}
"""The column of each field that is no map."""
_LAST_CODE_POINT = 0x10FFFF
_LONGEST_TEXT = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Conditions:
    """Makes conditions, and gathers their values."""

    label: str
    """How the store reads the value of a label, NULL where there is none; `{key}` is its key."""
    values: dict[str, Any]

    def of(self, filter_: Filter) -> str:
        """The condition of a filter on a row of `jobs`."""
        match filter_:
            case AllOf(terms):
                return self._joined(" AND ", terms, "1 = 1")
            case AnyOf(terms):
                return self._joined(" OR ", terms, "1 = 0")
            case Not(term):
                return f"NOT {self.of(term)}"
            case Has(field, key):
                unset = FIELDS[field].unset
                column = self._column(field, key)
                if unset is None:
                    return f"({column} IS NOT NULL)"
                return f"({column} <> {self._bound(unset, field)})"
            case Compare():
                return f"coalesce({self._compared(filter_)}, false)"

    def _joined(self, word: str, terms: tuple[Filter, ...], none: str) -> str:
        return f"({word.join(map(self.of, terms)) or none})"

    def _compared(self, compare: Compare) -> str:
        column = self._column(compare.field, compare.key)
        value = self._bound(compare.value, compare.field)
        if not compare.is_prefix:
            return f"{column} {compare.comparator} {value}"
        end = self._bound(behind_prefix(str(compare.value)), compare.field)
        return f"({column} >= {value} AND {column} < {end})"

    def _column(self, field: str, key: str) -> str:
        if not FIELDS[field].is_map:
            return COLUMNS[field]
        return self.label.format(key=self._bound(key, field))

    def _bound(self, value: Any, field: str) -> str:
        name = f"f{len(self.values)}"
        self.values[name] = value
        is_text = FIELDS[field].kind.shape is Shape.TEXT
        return f"CAST(:{name} AS {'text' if is_text else 'bigint'})"


def behind_prefix(prefix: str) -> str:
    """The first text, in the order of code points, that is behind every text with this prefix."""
    last = ord(prefix[-1])
    if last == _LAST_CODE_POINT:
        rest = prefix[:-1]
        return behind_prefix(rest) if rest else prefix + chr(_LAST_CODE_POINT) * _LONGEST_TEXT
    return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
