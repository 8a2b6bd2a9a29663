"""What is decided of a schedule that is due, against a model that goes through every second."""

import dataclasses
import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from jobservice.clock import EPOCH
from jobservice.model.firing import BUFFER_LIMIT, IN_TIME, Decision, Seen, decide, planned, refused
from jobservice.model.schedule import (
    Backfill,
    BackfillState,
    Cause,
    Misfire,
    MisfirePolicy,
    Outcome,
    Overlap,
    Pause,
    Run,
    Schedule,
    ScheduleSpec,
)
from jobservice.model.spec import Command, JobSpec
from jobservice.model.when import Timing

BEGIN = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
JOB = JobSpec(Command(("true",)))


def at(seconds: float) -> dt.datetime:
    return BEGIN + seconds * SECOND


def schedule(every_s: int, **fields: object) -> Schedule:
    spec = ScheduleSpec(JOB, Timing(every=every_s * SECOND))
    made = Schedule("t", "s", spec, BEGIN, BEGIN, decided_at=BEGIN)
    ours = {field.name for field in dataclasses.fields(ScheduleSpec)}
    rules = {name: value for name, value in fields.items() if name in ours}
    rest = {name: value for name, value in fields.items() if name not in ours}
    made = dataclasses.replace(made, spec=dataclasses.replace(spec, **rules), **rest)  # type: ignore[arg-type]
    return planned(made, BEGIN)


# --- the naive model --------------------------------------------------------------------------


ROOM = {Overlap.BUFFER_ONE: 1, Overlap.BUFFER_ALL: BUFFER_LIMIT}


def chosen_of(due: list[dt.datetime], misfire: Misfire, now: dt.datetime) -> list[dt.datetime]:
    """Those that the misfire rule has made."""
    all_ = misfire.policy is MisfirePolicy.ALL
    skip = misfire.policy is MisfirePolicy.SKIP
    window = min(misfire.window, IN_TIME) if skip else misfire.window
    return [each for each in due[-(misfire.max_count if all_ else 1) :] if now - each <= window]


def naive(seen: Seen, now: dt.datetime) -> tuple[list[float], list[tuple[float, Outcome]], int]:
    """Released fires, what became of each time (a gap time by time), and how many wait then."""
    every = seen.schedule.spec.timing.every
    assert every is not None
    rules = seen.schedule.spec
    due, moment = [], seen.schedule.decided_at
    while moment < now:
        moment += SECOND
        if (moment - EPOCH) % every == dt.timedelta(0) and moment <= now:
            due.append(moment)
    active, waiting = seen.active, len(seen.buffered)
    released = []
    for each in seen.buffered:
        if not active or rules.overlap is Overlap.ALLOW:
            released.append(each)
            active, waiting = True, waiting - 1
    outcomes = []
    chosen = chosen_of(due, rules.misfire, now)
    for each in due:
        if each not in chosen:
            outcomes.append((each, Outcome.MISSED))
        elif rules.overlap is Overlap.CANCEL_OTHER and each is not chosen[-1]:
            outcomes.append((each, Outcome.SKIPPED))
        elif not active or rules.overlap in {Overlap.ALLOW, Overlap.CANCEL_OTHER}:
            outcomes.append((each, Outcome.FIRED))
            active = True
        elif waiting < ROOM.get(rules.overlap, 0):
            outcomes.append((each, Outcome.BUFFERED))
            waiting += 1
        else:
            outcomes.append((each, Outcome.SKIPPED))
    shown = [((each - BEGIN) / SECOND, outcome) for each, outcome in outcomes]
    return [(each - BEGIN) / SECOND for each in released], shown, waiting


def spread(decision: Decision, every_s: int) -> list[tuple[float, Outcome]]:
    """The outcome of each time, those of gaps one by one."""
    found = []
    for run in decision.runs:
        last = (run.nominal_at - BEGIN) / SECOND
        times = [last - every_s * n for n in reversed(range(run.count))]
        if run.first_at is not None:
            assert (run.first_at - BEGIN) / SECOND == times[0]
        found += [(each, run.outcome) for each in times]
    return found


@given(
    every_s=st.integers(1, 90),
    decided_s=st.integers(0, 300),
    later_s=st.one_of(st.integers(-100, 100), st.integers(0, 900)),
    misfire=st.builds(
        Misfire,
        st.sampled_from(MisfirePolicy),
        st.integers(1, 20),
        st.integers(1, 600).map(lambda count: count * SECOND),
    ),
    overlap=st.sampled_from(Overlap),
    active=st.booleans(),
    waiting=st.integers(0, 3),
)
def test_it_does_what_a_model_does_that_goes_through_every_second(
    *,
    every_s: int,
    decided_s: int,
    later_s: int,
    misfire: Misfire,
    overlap: Overlap,
    active: bool,
    waiting: int,
) -> None:
    buffered = tuple(at(-n * every_s) for n in reversed(range(waiting)))
    looked_at = schedule(
        every_s,
        decided_at=at(decided_s),
        misfire=misfire,
        overlap=overlap,
        buffered_count=waiting,
        buffered_since=BEGIN if waiting else None,
    )
    now = at(decided_s + later_s)
    seen = Seen(looked_at, active, buffered=buffered)
    decision = decide(seen, now)
    released, outcomes, left = naive(seen, now)
    assert [(each - BEGIN) / SECOND for each in decision.released] == released
    assert spread(decision, every_s) == outcomes
    after = decision.schedule
    assert after.buffered_count == left
    assert (after.buffered_since is None) == (left == 0)
    fired = [run for run in decision.runs if run.outcome is Outcome.FIRED]
    others = overlap is Overlap.CANCEL_OTHER and bool(fired) and (active or bool(released))
    assert decision.cancel_others == others
    # What comes next is behind all that was decided, and is not due yet.
    assert after.decided_at == max(
        looked_at.decided_at, *(run.nominal_at for run in decision.runs), BEGIN
    )
    assert after.next_at is not None
    assert after.next_at > max(after.decided_at, now) or later_s < 0
    # Looking again at the same instant does nothing more.
    again = decide(Seen(after, active=True), now)
    assert (again.released, again.runs) == ((), ()) or overlap is Overlap.ALLOW


@given(
    steps=st.lists(st.integers(-4000, 4000), min_size=1, max_size=12),
    every_s=st.integers(1, 600),
    policy=st.sampled_from(MisfirePolicy),
)
def test_whatever_the_clock_does_no_time_is_decided_twice(
    steps: list[int], every_s: int, policy: MisfirePolicy
) -> None:
    current = schedule(every_s, misfire=Misfire(policy, 50), overlap=Overlap.ALLOW)
    now, seen_before, newest = BEGIN, set(), BEGIN
    for step in steps:
        now += step * SECOND
        decision = decide(Seen(current), now)
        for run in decision.runs:
            assert run.nominal_at not in seen_before
            assert (run.first_at or run.nominal_at) > newest
            seen_before.add(run.nominal_at)
            newest = run.nominal_at
        current = decision.schedule


def test_a_year_of_seconds_is_one_run() -> None:
    decision = decide(Seen(schedule(1)), BEGIN + dt.timedelta(days=365))
    gap, last = decision.runs
    assert (gap.outcome, gap.count, last.outcome) == (Outcome.MISSED, 999, Outcome.FIRED)
    assert gap.message.endswith("with others before the first")
    assert last.nominal_at == decision.schedule.decided_at == BEGIN + dt.timedelta(days=365)


def test_failures_pause_before_anything_is_made() -> None:
    looked_at = schedule(10, pause_after_failures=2)
    assert decide(Seen(looked_at, failures=1), at(10)).schedule.pause is None
    decision = decide(Seen(looked_at, failures=2), at(10))
    assert (decision.runs, decision.schedule.look_at) == ((), None)
    assert decision.schedule.pause == Pause("2 jobs in a row failed", at(10))


def test_a_pause_that_is_over_makes_the_fire_of_that_very_instant() -> None:
    looked_at = schedule(10, pause=Pause("", BEGIN, at(50)))
    assert decide(Seen(looked_at), at(49)).runs == ()
    decision = decide(Seen(looked_at), at(50))
    assert [run.nominal_at for run in decision.runs] == [at(50)]
    assert decision.schedule.judged_from is not None


# --- backfill ---------------------------------------------------------------------------------


def filling(end_s: float, rate: int = 60, **rules: object) -> Schedule:
    """A schedule that has decided about everything, with a backfill of its past."""
    backfill = Backfill(BEGIN, at(end_s), rate, 0, created_at=at(1000), due_at=at(1000))
    return schedule(10, decided_at=at(1000), backfill=backfill, **rules)


def fill(current: Schedule, now_s: float, **seen: object) -> tuple[Schedule, list[float]]:
    decision = decide(Seen(current, **seen), at(now_s))  # type: ignore[arg-type]
    made = [run for run in decision.runs if run.cause is Cause.BACKFILL]
    return decision.schedule, [(run.nominal_at - BEGIN) / SECOND for run in made]


def test_a_backfill_makes_one_after_the_other_at_its_rate() -> None:
    current = filling(50, overlap=Overlap.ALLOW)
    times = []
    for now_s in range(1000, 1010):
        current, made = fill(current, now_s)
        times.append(made)
    assert times == [[0], [10], [20], [30], [40], [], [], [], [], []]
    assert current.backfill is not None
    assert (current.backfill.state, current.backfill.job_count) == (BackfillState.DONE, 5)


def test_a_backfill_that_was_away_does_not_make_up_for_more_than_a_second() -> None:
    _, made = fill(filling(900, rate=600, overlap=Overlap.ALLOW), 5000)
    assert len(made) == 11


def test_a_backfill_waits_for_the_job_before_and_leaves_out_what_was_made() -> None:
    current, made = fill(filling(50), 1000, active=True)
    assert made == []
    assert current.look_at is not None
    assert current.look_at > at(1000)
    _, made = fill(current, 1005, made=frozenset({at(0), at(10)}))
    assert made == [20]


def test_a_fire_goes_before_a_backfill() -> None:
    current, made = fill(filling(50), 1010)
    assert made == []
    assert current.decided_at == at(1010)


# --- refused ----------------------------------------------------------------------------------


def test_what_is_refused_makes_no_job_and_is_not_tried_again() -> None:
    decision = refused(decide(Seen(schedule(10)), at(10)), "the queue is full", at(10))
    assert decision.runs == (
        Run(at(10), Cause.TIMER, Outcome.REFUSED, at(10), "the queue is full"),
    )
    assert decision.schedule.decided_at == at(10)


def test_what_is_refused_of_a_backfill_counts_as_left_out() -> None:
    backfill = Backfill(at(0), at(10), 60, 10, at(20), at(20))
    looked_at = dataclasses.replace(schedule(1), decided_at=at(20), backfill=backfill)
    decision = decide(Seen(looked_at), at(20))
    assert decision.schedule.backfill is not None
    assert decision.schedule.backfill.job_count == 1
    left_out = refused(decision, "no", at(20)).schedule.backfill
    assert left_out is not None
    assert (left_out.job_count, left_out.skipped_count) == (0, 1)


def test_what_waits_goes_on_waiting_when_it_is_refused() -> None:
    looked_at = schedule(
        10, overlap=Overlap.BUFFER_ONE, buffered_count=1, buffered_since=BEGIN, decided_at=at(10)
    )
    decision = refused(decide(Seen(looked_at, buffered=(at(10),)), at(12)), "no", at(12))
    assert (decision.released, decision.schedule.buffered_count) == ((), 1)
    assert decision.schedule.look_at is not None
    assert decision.schedule.look_at > at(12)
