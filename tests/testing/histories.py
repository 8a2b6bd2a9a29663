"""A small history in which everything went well, to be spoilt by tests."""

import copy
import itertools
from collections.abc import Mapping
from typing import Any

Entries = list[dict[str, Any]]
JOB, CHILD, STOPPED, GONE, FIRED = "j1", "j2", "j3", "j4", "j5"
EVERY_US = 1_000_000


def good() -> Entries:
    """Two jobs, the second of which waits for the first; one cancelled, one deleted, two scheduled."""
    return copy.deepcopy(_GOOD)


def find(entries: Entries, what: str, **fields: object) -> dict[str, Any]:
    """The first entry of a kind with these fields."""
    return next(
        each
        for each in entries
        if each["what"] == what and all(each.get(name) == value for name, value in fields.items())
    )


def event(
    job_id: str, revision: int, kind: str, previous: str | None, state: str, wall_us: int = 0
) -> dict[str, Any]:
    return {
        "what": "event", "by": "store", "job_id": job_id, "revision": revision, "kind": kind,
        "previous": previous, "state": state, "attempt": 0, "wall_us": wall_us,
    }  # fmt: skip


def job(job_id: str, state: str, revision: int, **fields: object) -> dict[str, Any]:
    plain = {
        "name": f"r-{job_id}", "queue": "default", "priority": 0, "fairness_key": "", "keys": [],
        "asks": False, "why": "", "attempt_count": 0,
        "failure_count": 0, "lost_count": 0, "max_attempts": 1, "schedule": "", "schedule_us": None,
        "parents": [], "array": "", "attempts": [],
    }  # fmt: skip
    found = {"what": "job", "by": "store", "job_id": job_id, "state": state, "revision": revision}
    return {**plain, **found, **fields}


def ran(job_id: str, *, keys: str = "", code: int | None = 0) -> Entries:
    """What the witness and the runner saw of the first attempt of a job."""
    lease = {"by": "witness", "job_id": job_id, "attempt": 1, "epoch": 1, "pid": 7}
    key = f"default/{job_id}/1/1"
    seen: Entries = [
        {"what": "intent", "by": "runner", "key": key},
        {"what": "spawned", "by": "runner", "key": key, "pid": 7},
        {"what": "start", **lease, "alone": True, "keys": keys, "lines": 2},
        {"what": "beat", **lease},
    ]
    if code is not None:
        seen.append({"what": "end", **lease, "code": code})
    told = {"code": code, "signal": None if code is not None else 15}
    return [*seen, {"what": "ended", "by": "runner", "key": key, "cause": "exit", **told}]


def attempt(state: str = "SUCCEEDED", exit_code: int | None = 0, number: int = 1) -> dict[str, Any]:
    return {"attempt": number, "state": state, "exit_code": exit_code, "signal": None}


_calls = itertools.count()


def asked(
    method: str, arguments: Mapping[str, Any], result: Mapping[str, Any] | None = None
) -> Entries:
    """A call, and its answer."""
    number, by = next(_calls), "client"
    answer = {"what": "answer", "by": by, "call": number, "outcome": "ok", "result": result or {}}
    call = {"what": "call", "by": by, "call": number, "method": method, "arguments": arguments}
    return [call, answer]


def created(job_id: str) -> Entries:
    return asked("create", {"request": f"r-{job_id}", "count": 1}, {"job_ids": [job_id]})


def frames(job_id: str, *told: tuple[int, str, str]) -> Entries:
    about = {"what": "frame", "by": "client", "stream": "w", "job_id": job_id}
    return [{**about, "revision": n, "kind": kind, "state": state} for n, kind, state in told]


def lived(job_id: str) -> Entries:
    """The events of a job that succeeded at once."""
    return [
        event(job_id, 1, "CREATED", None, "QUEUED"),
        event(job_id, 2, "CLAIMED", "QUEUED", "RUNNING"),
        event(job_id, 3, "STARTED", "RUNNING", "RUNNING"),
        event(job_id, 4, "SUCCEEDED", "RUNNING", "SUCCEEDED"),
    ]


def _fired(number: int) -> Entries:
    job_id = f"{FIRED}{number}"
    fields = {"name": "s", "schedule": "s", "schedule_us": number * EVERY_US}
    ended = {"attempt_count": 1, "attempts": [attempt()], **fields}
    return [*ran(job_id), *lived(job_id), job(job_id, "SUCCEEDED", 4, **ended)]


_STEPS: Entries = [
    {"what": "limit", "by": "harness", "key": "k", "most": 1},
    {"what": "slots", "by": "harness", "most": 2},
    {"what": "servers", "by": "harness", "count": 1},
    {"what": "lead", "by": "harness", "server": "w1", "epoch": 1},
    {"what": "lead", "by": "harness", "server": "w2", "epoch": 2},
    *created(JOB),
    *created(CHILD),
    *created(STOPPED),
    *created(GONE),
    *asked("create_schedule", {"schedule": "s", "every_us": EVERY_US}),
    {"what": "fault", "by": "nemesis", "kind": "kill server"},
    *ran(JOB, keys="k"),
    *asked("get", {"job_id": JOB}, {"revision": 3, "state": "RUNNING"}),
    *asked("get", {"job_id": JOB}, {"revision": 4, "state": "SUCCEEDED"}),
    *frames(JOB, (2, "snapshot", "RUNNING"), (3, "STARTED", "RUNNING")),
    *frames(JOB, (4, "SUCCEEDED", "SUCCEEDED")),
    *ran(CHILD, keys="k"),
    *ran(STOPPED, code=None),
    *asked(
        "cancel",
        {"job_id": STOPPED},
        {"revision": 5, "state": "CANCELLED", "attempt": 1, "lives": False},
    ),
    *asked("delete", {"job_id": GONE}, {"lives": False}),
    *asked("pause", {"queue": "default"}, {"wall_us": 1_000}),
    *asked("resume", {"queue": "default"}),
    {
        "what": "output", "by": "client", "job_id": JOB, "attempt": 1, "pieces": [[0, 15], [15, 15]],
        "text": "default/j1/1/1 0\ndefault/j1/1/1 1\n",
    },
    *lived(JOB),
    *lived(CHILD),
    *lived(STOPPED)[:3],
    event(STOPPED, 4, "STOPPING", "RUNNING", "STOPPING"),
    event(STOPPED, 5, "CANCELLED", "STOPPING", "CANCELLED"),
    event(GONE, 1, "DELETED", "CANCELLED", "CANCELLED"),
    job(JOB, "SUCCEEDED", 4, attempt_count=1, attempts=[attempt()]),
    job(CHILD, "SUCCEEDED", 4, attempt_count=1, attempts=[attempt()], parents=[JOB]),
    job(STOPPED, "CANCELLED", 5, attempt_count=1, attempts=[attempt("CANCELLED", None)]),
    *_fired(1),
    *_fired(2),
    {"what": "directory", "by": "harness", "job_id": JOB},
]  # fmt: skip
_GOOD: Entries = [
    {
        "at": number * 1000,
        "boot": "b",
        **entry,
        **({"order": number} if entry["what"] == "event" else {}),
    }
    for number, entry in enumerate(_STEPS)
]
