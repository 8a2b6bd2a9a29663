"""Firing: what is to be done about a schedule when one looks at it. Pure.

`decide` is the whole rule. `decided_at` counts up through the nominal times: what it has passed is made
by itself no more, however the clock is set. What could not be made in time is recorded as one run for
each gap, however long it was.

| a fire is due | and | what becomes of it |
|---|---|---|
| in time, or chosen by the misfire rule | no job of the schedule is active | FIRED |
| | one is active | as the overlap policy says: SKIPPED, BUFFERED, FIRED |
| with others, or too late | the misfire rule does not choose it | MISSED |
"""

import collections
import dataclasses
import datetime as dt
import itertools
from collections.abc import Iterator, Sequence

from jobservice.model.schedule import (
    Backfill,
    BackfillState,
    Cause,
    MisfirePolicy,
    Outcome,
    Overlap,
    Pause,
    Preview,
    Run,
    Schedule,
    ScheduleSpec,
    Upcoming,
)
from jobservice.model.timing import due_at, fires, in_words
from jobservice.model.when import Fire, Timing
from jobservice.model.zone import get_zone
from jobservice.mutants import mutant

MOST_AT_ONCE = 1_000
"""How many fires that are due together are looked at, the newest."""
IN_TIME = dt.timedelta(minutes=1)
"""With the misfire policy SKIP a fire may be this late."""
BUFFER_LIMIT = 1_000
"""How many fires wait under BUFFER_ALL."""
RELEASED_AT_ONCE = 100
"""How many buffered fires, or times of a backfill, are gone through at a time."""
LOOK_AGAIN = dt.timedelta(seconds=1)
"""How soon what waits for a job of the schedule is looked at again, at first; while it waits, after a
tenth of its waiting."""
LOOK_AGAIN_AT_LEAST = dt.timedelta(seconds=30)
_BUFFERS = {Overlap.BUFFER_ONE: 1, Overlap.BUFFER_ALL: BUFFER_LIMIT}
_RESOLUTION = dt.timedelta.resolution
_SECOND = dt.timedelta(seconds=1)
_MINUTE = dt.timedelta(minutes=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What a decision about a schedule rests on, read in the same transaction."""

    schedule: Schedule
    active: bool = False
    """Whether a job of the schedule is not final."""
    failures: int = 0
    """How many of its jobs in a row ended FAILED, the newest included."""
    buffered: tuple[dt.datetime, ...] = ()
    """The nominal times of the oldest fires that wait."""
    made: frozenset[dt.datetime] = frozenset()
    """The times behind the cursor of the backfill that have a job already, the first of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about a schedule that was looked at, all of it together."""

    schedule: Schedule
    """As it is from then on."""
    released: tuple[dt.datetime, ...] = ()
    """Buffered fires that are made now."""
    runs: tuple[Run, ...] = ()
    """What is recorded; each that is FIRED makes a job."""
    cancel_others: bool = False
    """Whether the jobs that were active are to end."""


# --- deciding ---------------------------------------------------------------------------------


def decide(seen: Seen, now: dt.datetime) -> Decision:
    """What becomes of everything that is due of a schedule."""
    schedule = _resumed(seen.schedule, now)
    if schedule.pause is None and _fails(seen, schedule):
        failed = schedule.spec.pause_after_failures
        plural = "job" if failed == 1 else "jobs in a row"
        schedule = paused(schedule, Pause(f"{failed} {plural} failed", now))
    if schedule.pause is not None:
        return Decision(planned(schedule, now))
    return _Deciding(seen, schedule, now).all()


def refused(decision: Decision, message: str, now: dt.datetime) -> Decision:
    """The decision without its jobs, which cannot be made; fires that wait go on waiting."""
    schedule = decision.schedule
    waiting = schedule.buffered_count + len(decision.released)
    since = schedule.buffered_since or (schedule.decided_at if waiting else None)
    runs = tuple(
        dataclasses.replace(run, outcome=Outcome.REFUSED, message=message)
        if run.outcome is Outcome.FIRED
        else run
        for run in decision.runs
    )
    schedule = dataclasses.replace(
        schedule,
        buffered_count=waiting,
        buffered_since=since,
        backfill=_without_jobs(schedule.backfill, decision.runs),
    )
    return Decision(planned(schedule, now), runs=runs)


def _without_jobs(backfill: Backfill | None, runs: Sequence[Run]) -> Backfill | None:
    """A backfill, some of whose jobs cannot be made."""
    count = sum(1 for run in runs if run.cause is Cause.BACKFILL and run.outcome is Outcome.FIRED)
    if backfill is None or not count:
        return backfill
    return dataclasses.replace(
        backfill,
        job_count=backfill.job_count - count,
        skipped_count=backfill.skipped_count + count,
    )


def planned(schedule: Schedule, now: dt.datetime) -> Schedule:
    """The schedule with the next fire, and when to look at it."""
    if schedule.pause is not None:
        return dataclasses.replace(schedule, next_at=None, look_at=schedule.pause.until)
    fire = next(fires(schedule.spec.timing, seed=schedule.seed, after=schedule.decided_at), None)
    looks = []
    if fire is not None:
        looks.append(due_at(schedule.spec.timing, fire, seed=schedule.seed))
    if schedule.buffered_since is not None:
        looks.append(now + _again(now - schedule.buffered_since))
    if schedule.backfill is not None and schedule.backfill.state is BackfillState.ACTIVE:
        looks.append(schedule.backfill.due_at)
    return dataclasses.replace(
        schedule,
        next_at=None if fire is None else fire.nominal_at,
        look_at=min(looks, default=None),
    )


def paused(schedule: Schedule, pause: Pause) -> Schedule:
    """The schedule, which makes no jobs by itself from now on."""
    return dataclasses.replace(schedule, pause=pause)


def resumed(schedule: Schedule, at: dt.datetime) -> Schedule:
    """The schedule, which goes on from `at`; failures before count no more."""
    return dataclasses.replace(
        schedule, pause=None, decided_at=max(schedule.decided_at, at), judged_from=at
    )


def _resumed(schedule: Schedule, now: dt.datetime) -> Schedule:
    pause = schedule.pause
    if pause is None or pause.until is None or pause.until > now:
        return schedule
    return resumed(schedule, pause.until - _RESOLUTION)  # a fire at that very instant is made


def _fails(seen: Seen, schedule: Schedule) -> bool:
    limit = schedule.spec.pause_after_failures
    return bool(limit) and seen.failures >= limit


def _again(waited: dt.timedelta) -> dt.timedelta:
    return min(max(waited / 10, LOOK_AGAIN), LOOK_AGAIN_AT_LEAST)


def due_fires(schedule: Schedule, now: dt.datetime) -> tuple[list[Fire], bool]:
    """The newest fires that are due, in order, and whether there are others before them."""
    found = list(itertools.islice(_due_after(schedule, schedule.decided_at, now), MOST_AT_ONCE + 1))
    if len(found) <= MOST_AT_ONCE:
        return found, False
    span = MOST_AT_ONCE * _SECOND
    while True:
        after = max(schedule.decided_at, now - span)
        newest = collections.deque(_due_after(schedule, after, now), MOST_AT_ONCE)
        if len(newest) == MOST_AT_ONCE or after == schedule.decided_at:
            return list(newest), True
        span *= 2


def _due_after(schedule: Schedule, after: dt.datetime, now: dt.datetime) -> Iterator[Fire]:
    timing, seed = schedule.spec.timing, schedule.seed
    for fire in fires(timing, seed=seed, after=after):
        if due_at(timing, fire, seed=seed) > now:
            return
        yield fire


class _Deciding:
    """One decision as it comes about."""

    def __init__(self, seen: Seen, schedule: Schedule, now: dt.datetime) -> None:
        self._seen = seen
        self._schedule = schedule
        self._now = now
        self._overlap = schedule.spec.overlap
        self._active = seen.active
        self._waiting = schedule.buffered_count
        self._waits_since = schedule.buffered_since
        self._released: list[dt.datetime] = []
        self._runs: list[Run] = []
        self._cancel_others = False

    def all(self) -> Decision:
        self._release()
        decided_at = self._timer()
        schedule = dataclasses.replace(
            self._schedule,
            decided_at=decided_at,
            buffered_count=self._waiting,
            buffered_since=self._waits_since if self._waiting else None,
        )
        schedule = dataclasses.replace(schedule, backfill=self._backfill(schedule))
        return Decision(
            planned(schedule, self._now),
            tuple(self._released),
            tuple(self._runs),
            self._cancel_others,
        )

    def _release(self) -> None:
        """Fires that wait go first: one once nothing is active, all where overlap is allowed."""
        for nominal_at in self._seen.buffered:
            if self._active and self._overlap is not Overlap.ALLOW:
                break
            self._released.append(nominal_at)
            self._active = True
            self._waiting -= 1

    def _timer(self) -> dt.datetime:
        """Decide about every fire that is due; returns what was decided so far."""
        due, more = due_fires(self._schedule, self._now)
        if not due:
            return self._schedule.decided_at
        chosen = self._chosen(due)
        missed = due[: len(due) - len(chosen)]
        if missed:
            self._miss(missed, more=more)
        superseded = len(chosen) - 1 if self._overlap is Overlap.CANCEL_OTHER else 0
        for fire in chosen[:superseded]:
            self._record(fire, Outcome.SKIPPED, "a newer one took its place")
        for fire in chosen[superseded:]:
            self._fire(fire)
        return due[-1].nominal_at

    def _chosen(self, due: Sequence[Fire]) -> Sequence[Fire]:
        """Those that the misfire rule has made: the newest, in order."""
        misfire = self._schedule.spec.misfire
        counts = {
            MisfirePolicy.SKIP: 1,
            MisfirePolicy.LAST: 1,
            MisfirePolicy.ALL: misfire.max_count + mutant("misfire.one_more"),
        }
        window = misfire.window
        if misfire.policy is MisfirePolicy.SKIP:
            window = min(window, IN_TIME)
        newest = due[-counts[misfire.policy] :]
        return [fire for fire in newest if self._late(fire) <= window]

    def _late(self, fire: Fire) -> dt.timedelta:
        return self._now - due_at(self._schedule.spec.timing, fire, seed=self._schedule.seed)

    def _miss(self, missed: Sequence[Fire], *, more: bool) -> None:
        last = missed[-1]
        message = f"not made in time; due {_ago(self._late(last))} ago"
        self._runs.append(
            Run(
                last.nominal_at,
                Cause.TIMER,
                Outcome.MISSED,
                self._now,
                f"{message}, with others before the first" if more else message,
                count=len(missed),
                first_at=missed[0].nominal_at,
            )
        )

    def _fire(self, fire: Fire) -> None:
        if not self._active or self._overlap is Overlap.ALLOW:
            self._make(fire, Cause.TIMER)
        elif self._overlap is Overlap.CANCEL_OTHER:
            self._cancel_others = True
            self._make(fire, Cause.TIMER)
        elif self._waiting < _BUFFERS.get(self._overlap, 0):
            self._waiting += 1
            self._waits_since = self._waits_since or self._now
            self._record(fire, Outcome.BUFFERED, fire.note)
        else:
            full = f", and {self._waiting:,} wait" if self._waiting else ""
            self._record(fire, Outcome.SKIPPED, f"a job of the schedule is not final{full}")

    def _make(self, fire: Fire, cause: Cause) -> None:
        self._active = True
        self._record(fire, Outcome.FIRED, fire.note, cause)

    def _record(
        self, fire: Fire, outcome: Outcome, message: str, cause: Cause = Cause.TIMER
    ) -> None:
        self._runs.append(Run(fire.nominal_at, cause, outcome, self._now, message))

    # backfill

    def _backfill(self, schedule: Schedule) -> Backfill | None:
        """The backfill after what it may make now."""
        backfill = schedule.backfill
        if backfill is None or backfill.state is not BackfillState.ACTIVE:
            return backfill
        if backfill.due_at > self._now:
            return backfill
        alone = self._overlap is not Overlap.ALLOW
        if alone and self._active:
            waited = self._now - backfill.due_at
            return dataclasses.replace(
                backfill, due_at=self._now + min(waited / 10 + LOOK_AGAIN, LOOK_AGAIN_AT_LEAST)
            )
        return self._step(schedule, backfill, alone=alone)

    def _step(self, schedule: Schedule, backfill: Backfill, *, alone: bool) -> Backfill:
        interval = _MINUTE / backfill.jobs_per_minute
        late = min(self._now - backfill.due_at, _SECOND)
        left = 1 if alone else 1 + late // interval
        after = backfill.cursor_at or backfill.start_at - _RESOLUTION
        jobs = skipped = 0
        state = BackfillState.DONE
        for fire in fires(schedule.spec.timing, seed=schedule.seed, after=after):
            if fire.nominal_at >= backfill.end_at:
                break
            if jobs == left or jobs + skipped == RELEASED_AT_ONCE:
                state = BackfillState.ACTIVE
                break
            after = fire.nominal_at
            if fire.nominal_at in self._seen.made or fire.nominal_at > schedule.decided_at:
                skipped += 1
            else:
                jobs += 1
                self._make(fire, Cause.BACKFILL)
        return dataclasses.replace(
            backfill,
            state=state,
            due_at=self._now + interval if jobs else self._now,
            cursor_at=after,
            job_count=backfill.job_count + jobs,
            skipped_count=backfill.skipped_count + skipped,
        )


def _ago(length: dt.timedelta) -> str:
    """A length of time in words, in its largest unit."""
    seconds = int(length.total_seconds())
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = seconds // size
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} s"


# --- what users ask ---------------------------------------------------------------------------


def triggered(seen: Seen, now: dt.datetime, nominal_at: dt.datetime) -> Decision:
    """One job now, whatever runs."""
    return Decision(seen.schedule, runs=(Run(nominal_at, Cause.TRIGGER, Outcome.FIRED, now),))


def edited(schedule: Schedule, spec: ScheduleSpec, now: dt.datetime) -> Schedule:
    """The schedule with other fields; with another timing it goes on from now."""
    decided_at = schedule.decided_at
    if spec.timing != schedule.spec.timing:
        decided_at = max(decided_at, now)
    changed = dataclasses.replace(
        schedule,
        spec=spec,
        decided_at=decided_at,
        edit_version=schedule.edit_version + 1,
        updated_at=now,
    )
    return planned(changed, now)


def count_times(
    timing: Timing, seed: str, start_at: dt.datetime, end_at: dt.datetime, limit: int
) -> int:
    """How many fires a timing has in a range without its end, counted no further than `limit`."""
    found = itertools.takewhile(
        lambda fire: fire.nominal_at < end_at,
        fires(timing, seed=seed, after=start_at - _RESOLUTION),
    )
    return sum(1 for _ in itertools.islice(found, limit))


def look_ahead(timing: Timing, seed: str, after: dt.datetime, count: int) -> Preview:
    """The next fires of a timing, and what it says."""
    zone = get_zone(timing.zone)
    upcoming = [
        Upcoming(
            fire.nominal_at,
            due_at(timing, fire, seed=seed),
            fire.nominal_at.astimezone(zone).isoformat(),
            fire.note,
        )
        for fire in itertools.islice(fires(timing, seed=seed, after=after), count)
    ]
    return Preview(in_words(timing, seed), tuple(upcoming))
