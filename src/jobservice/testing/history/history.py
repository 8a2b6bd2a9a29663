"""The history of a run: the records of all observers, put together by what they are about.

The vocabulary of records, by `what`:

    call, answer    a client asked, and was told: `outcome` is ok, fail (it did not happen) or info (it
                    may have happened); `method`, `arguments` and `result` are those of `clients.py`
    frame           a watch told a client of a job: `stream`, `job_id`, `revision`, `kind`, `state`
    output          a client read the output of an attempt: `pieces` are [offset, length], and `text`
    start, beat, end    the witness inside an attempt; `alone`: it got the lock of its job
    intent, spawned, ended, acked    the runner, by the `key` of an attempt
    event, job      the store, read at the end: every event in the order of commits, every job
    limit, slots    what must not be exceeded: `key` and `most`
    servers         how many there are over the store: `count`
    lead            a server said that it leads: `server`, `epoch`
    fault           the nemesis did something: `kind`
    left            something is still there at the end that should not be: `kind`, `name`
    directory       an attempt's directory is there at the end: `job_id`
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobservice.testing.history.record import Entry

OK, FAIL, INFO = "ok", "fail", "info"
_NOTHING: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """What a client asked for, and what came of it."""

    client: str
    method: str
    arguments: Mapping[str, Any]
    begun_at: int
    outcome: str = INFO
    """Without an answer nobody knows."""
    ended_at: int | None = None
    code: str = ""
    result: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class Run:
    """One process of the witness."""

    job_id: str
    attempt: int
    epoch: int
    pid: int
    start_at: int
    last_at: int
    """When something of its tree was heard last."""
    alone: bool
    keys: Sequence[str]
    lines: int
    code: int | None = None
    """None: it did not come to its end."""


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """Everything that was seen, by what it is about; lists are in the order of time."""

    calls: Sequence[Call]
    runs: Mapping[str, Sequence[Run]]
    """By job, in the order of their starts."""
    events: Mapping[str, Sequence[Entry]]
    """By job, in the order of commits."""
    jobs: Mapping[str, Entry]
    """By id, as they are at the end."""
    frames: Mapping[tuple[str, str], Sequence[Entry]]
    """By stream and job."""
    outputs: Sequence[Entry]
    runner: Mapping[str, Sequence[Entry]]
    """By the key of the attempt."""
    limits: Mapping[str, int]
    slots: int | None
    servers: int | None
    leads: Sequence[Entry]
    faults: Sequence[Entry]
    left: Sequence[Entry]
    directories: frozenset[str]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "History":
        """Put records together; they are in the order of time."""
        kinds: dict[str, list[Entry]] = collections.defaultdict(list)
        for entry in entries:
            kinds[entry["what"]].append(entry)
        return cls(
            calls=_calls(kinds["call"], kinds["answer"]),
            runs=_runs(kinds["start"], kinds["beat"], kinds["end"]),
            events=_grouped(sorted(kinds["event"], key=lambda event: event["order"]), "job_id"),
            jobs={job["job_id"]: job for job in kinds["job"]},
            frames=_frames(kinds["frame"]),
            outputs=kinds["output"],
            runner=_grouped(
                [each for what in ("intent", "spawned", "ended", "acked") for each in kinds[what]],
                "key",
            ),
            limits={limit["key"]: limit["most"] for limit in kinds["limit"]},
            slots=sum(each["most"] for each in kinds["slots"]) or None,
            servers=sum(each["count"] for each in kinds["servers"]) or None,
            leads=kinds["lead"],
            faults=kinds["fault"],
            left=kinds["left"],
            directories=frozenset(each["job_id"] for each in kinds["directory"]),
        )

    def answered(self, *methods: str, outcome: str = OK) -> Iterable[Call]:
        """The calls of these methods with an outcome."""
        return (call for call in self.calls if call.method in methods and call.outcome == outcome)

    def all_runs(self) -> Iterable[Run]:
        """The runs of all jobs."""
        return (run for runs in self.runs.values() for run in runs)

    def is_deleted(self, job_id: str) -> bool:
        """Whether the store says that a job was deleted."""
        return any(event["kind"] == "DELETED" for event in self.events.get(job_id, ()))

    def revivals(self, job_id: str) -> bool:
        """Whether a final job was run again."""
        again = {"RETRIED", "REOPENED"}
        return any(event["kind"] in again for event in self.events.get(job_id, ()))


def _calls(begun: Sequence[Entry], answers: Sequence[Entry]) -> list[Call]:
    told = {(answer["by"], answer["call"]): answer for answer in answers}
    calls = []
    for each in begun:
        answer = told.get((each["by"], each["call"]), _NOTHING)
        calls.append(
            Call(
                each["by"],
                each["method"],
                each.get("arguments", _NOTHING),
                each["at"],
                answer.get("outcome", INFO),
                answer.get("at"),
                answer.get("code", ""),
                answer.get("result", _NOTHING),
            )
        )
    return calls


def _runs(
    starts: Sequence[Entry], beats: Sequence[Entry], ends: Sequence[Entry]
) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {}
    newest: dict[tuple[str, int, int], Run] = {}
    by_pid: dict[tuple[str, int, int, int], Run] = {}
    for start in starts:
        run = Run(
            start["job_id"],
            start["attempt"],
            start["epoch"],
            start["pid"],
            start["at"],
            start["at"],
            start["alone"],
            [key for key in start["keys"].split(",") if key],
            start["lines"],
        )
        runs.setdefault(run.job_id, []).append(run)
        newest[run.job_id, run.attempt, run.epoch] = run
        by_pid[run.job_id, run.attempt, run.epoch, run.pid] = run
    for each in (*beats, *ends):
        lease = each["job_id"], each["attempt"], each["epoch"]
        heard = by_pid.get((*lease, each["pid"])) or newest.get(lease)  # a child has another pid
        if heard is not None:
            heard.last_at = max(heard.last_at, each["at"])
            heard.code = each.get("code", heard.code)
    return runs


def _frames(frames: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    found: dict[tuple[str, str], list[Entry]] = {}
    for frame in frames:
        found.setdefault((frame["stream"], frame["job_id"]), []).append(frame)
    return found


def _grouped(entries: Iterable[Entry], field: str) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry[field], []).append(entry)
    return found
