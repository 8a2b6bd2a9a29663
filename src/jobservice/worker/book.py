"""The worker's book: what it holds and what it still has to tell. Memory only, no I/O.

Everything in it can be had again: the store knows the leases and the runner knows the processes and
keeps every end until it is acknowledged.
"""

import collections
import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence

from jobservice.executors.port import Ended, Progressed, Report, Started
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.job import Progress
from jobservice.model.lease import AttemptEnd, AttemptStart, Claim, ProgressReport
from jobservice.model.progress import estimated_completion

EARLY_STOPS = 10_000
"""How many stops are remembered that came before the answer to the claim they are about."""


@dataclasses.dataclass(slots=True)
class Entry:
    """An attempt that the executor was asked to run."""

    started_at: dt.datetime | None = None


@dataclasses.dataclass(slots=True)
class Records:
    """What is to be told to the service, in this order."""

    starts: list[AttemptStart] = dataclasses.field(default_factory=list)
    progress: list[ProgressReport] = dataclasses.field(default_factory=list)
    ends: list[AttemptEnd] = dataclasses.field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.starts or self.progress or self.ends)


class Book:
    """Claims that wait for a slot, attempts that run, and reports that are not recorded yet."""

    def __init__(self) -> None:
        self.pending: collections.deque[Claim] = collections.deque()
        self.running: dict[Fence, Entry] = {}
        self._disowned: set[Fence] = set()
        """Those of the running ones that have lost their lease: their jobs may be claimed anew."""
        self.silenced: set[Fence] = set()
        """Attempts that ended in silence and whose leases may not have run out yet."""
        self.unrecorded = Records()
        self._recording = Records()
        self._early_stops: collections.OrderedDict[Fence, None] = collections.OrderedDict()

    def take(self, claims: Iterable[Claim], now: dt.datetime) -> list[Fence]:
        """Claims arrived; those that were stopped meanwhile end at once.

        Returns:
            Attempts of these jobs that still run here, and so have lost their leases: they are to end.
        """
        running = {(fence.tenant, fence.job_id): fence for fence in self.running}
        lost = []
        for claim in claims:
            before = running.get((claim.fence.tenant, claim.fence.job_id))
            if before is not None:
                self.disown(before)
                lost.append(before)
            if claim.fence in self._early_stops:
                del self._early_stops[claim.fence]
                self.end_unstarted(claim.fence, now)
            else:
                self.pending.append(claim)
        return lost

    def send(self, room: int) -> list[Claim]:
        """Take up to `room` waiting claims to be started now."""
        if self._disowned:
            claims = self.sendable()[:room]
            self.drop([claim.fence for claim in claims])
        else:
            claims = [self.pending.popleft() for _ in range(min(room, len(self.pending)))]
        for claim in claims:
            self.running[claim.fence] = Entry()
        return claims

    def sendable(self) -> list[Claim]:
        """The waiting claims, without those of jobs whose attempt of before has still a process."""
        busy = {(fence.tenant, fence.job_id) for fence in self._disowned}
        return [each for each in self.pending if (each.fence.tenant, each.fence.job_id) not in busy]

    def drop(self, fences: Sequence[Fence]) -> None:
        """Waiting claims were started or handed back."""
        gone = set(fences)
        self.pending = collections.deque(each for each in self.pending if each.fence not in gone)

    def disown(self, fence: Fence) -> None:
        """An attempt has lost its lease: no other one of its job starts before it has ended."""
        if fence in self.running:
            self._disowned.add(fence)

    def silence(self, fences: Sequence[Fence]) -> None:
        """Attempts have ended of which nothing is to be told."""
        for fence in fences:
            self.running.pop(fence, None)
            self._disowned.discard(fence)
        self.silenced.update(fences)

    def keep_silenced(self, live: Iterable[Fence]) -> set[Fence]:
        """Those that ended in silence and whose leases are still live; the others are forgotten."""
        self.silenced.intersection_update(live)
        return self.silenced

    def forget_held(self) -> None:
        """The executor is connected anew, and says what there is."""
        self.pending.clear()
        self.running.clear()
        self._disowned.clear()

    def adopt(self, fence: Fence, started_at: dt.datetime | None) -> None:
        """An attempt was found running."""
        self.running[fence] = Entry(started_at)

    def hear(self, reports: Sequence[Report]) -> int:
        """Note what the executor says; returns how many attempts ended."""
        ended = 0
        for report in reports:
            match report:
                case Ended():
                    self.running.pop(report.fence, None)
                    self._disowned.discard(report.fence)
                    self.unrecorded.ends.append(AttemptEnd(report.fence, report.outcome))
                    ended += 1
                case Started():
                    self._hear_start(report)
                case Progressed():
                    self._hear_progress(report)
        return ended

    def stop(self, fences: Sequence[Fence], now: dt.datetime) -> list[Fence]:
        """Attempts are to end; returns those whose executor has to be told."""
        wanted = set(fences)
        kept = [claim for claim in self.pending if claim.fence not in wanted]
        for claim in self.pending:
            if claim.fence in wanted:
                self.end_unstarted(claim.fence, now)
                wanted.discard(claim.fence)
        self.pending = collections.deque(kept)
        running = [fence for fence in wanted if fence in self.running]
        for fence in wanted.difference(running, self._held()):
            self._early_stops[fence] = None
            if len(self._early_stops) > EARLY_STOPS:
                self._early_stops.popitem(last=False)
        return running

    def end_unstarted(self, fence: Fence, now: dt.datetime) -> None:
        """A claim is stopped before a process existed."""
        self.unrecorded.ends.append(AttemptEnd(fence, Outcome(Cause.STOP, now)))

    def held(self) -> list[Fence]:
        """Every lease that this worker has to keep."""
        return [claim.fence for claim in self.pending] + list(self.running) + self._held()

    def begin_recording(self) -> Records:
        """What is to be told now. A start or progress is left out where the end is told as well."""
        records, self.unrecorded = self.unrecorded, Records()
        ended = {end.fence for end in records.ends}
        records.starts = [start for start in records.starts if start.fence not in ended]
        newest = {report.fence: report for report in records.progress}
        records.progress = list(newest.values())
        self._recording = records
        return records

    def recorded(self) -> None:
        """All of it is on disk."""
        self._recording = Records()

    def not_recorded(self) -> None:
        """None of it could be told: keep it in front of what came since."""
        old, new = self._recording, self.unrecorded
        self.unrecorded = Records(
            old.starts + new.starts, old.progress + new.progress, old.ends + new.ends
        )
        self._recording = Records()

    def _held(self) -> list[Fence]:
        return [end.fence for end in (*self._recording.ends, *self.unrecorded.ends)]

    def _hear_start(self, report: Started) -> None:
        entry = self.running.get(report.fence)
        if entry is not None:
            entry.started_at = report.started_at
        self.unrecorded.starts.append(AttemptStart(report.fence, report.started_at))

    def _hear_progress(self, report: Progressed) -> None:
        entry = self.running.get(report.fence)
        started_at = entry.started_at if entry is not None else None
        estimate = (
            estimated_completion(report.percent, started_at, report.reported_at)
            if started_at is not None
            else None
        )
        self.unrecorded.progress.append(
            ProgressReport(
                report.fence,
                Progress(report.percent, report.step, estimate, report.reported_at),
            )
        )
