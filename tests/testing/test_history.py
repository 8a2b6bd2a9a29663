"""The checker of histories: it is content with a good one, and sees what is wrong with each bad one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobservice.testing.history.check import INVARIANTS, Outcome, Verdict, check
from jobservice.testing.history.history import History
from jobservice.testing.history.record import Recorder, read_records
from tests.testing.histories import (
    CHILD,
    EVERY_US,
    FIRED,
    GONE,
    JOB,
    STOPPED,
    Entries,
    asked,
    attempt,
    event,
    find,
    frames,
    good,
    job,
    ran,
)

Spoil = Callable[[Entries], object]


def judged(entries: Entries, *, least_kills: int = 1, least_jobs: int = 1) -> Verdict:
    history = History.of(sorted(entries, key=lambda entry: entry["at"]))
    return check(history, least_kills=least_kills, least_jobs=least_jobs)


def late(entries: Entries, at: int = 10**9) -> Entries:
    """The same, long after everything else."""
    return [{**entry, "at": at + number} for number, entry in enumerate(entries)]


def without(entries: Entries, what: str, **fields: object) -> None:
    entries.remove(find(entries, what, **fields))


def put(entries: Entries, what: str, change: dict[str, object], **fields: object) -> None:
    find(entries, what, **fields).update(change)


def result(entries: Entries, method: str, **change: object) -> None:
    """Change what a client was told."""
    call = find(entries, "call", method=method)
    answer = find(entries, "answer", call=call["call"])
    answer["result"] = {**answer["result"], **change}


def lose_row(entries: Entries) -> None:
    without(entries, "job", job_id=STOPPED)


def second_set_of_jobs(entries: Entries) -> None:
    arguments = {"request": f"r-{JOB}", "count": 1}
    entries += late(asked("create", arguments, {"job_ids": ["j9"]}))


def refused_and_made(entries: Entries) -> None:
    put(entries, "answer", {"outcome": "fail"}, call=find(entries, "call", method="create")["call"])


def half_a_batch(entries: Entries) -> None:
    call = find(entries, "call", method="create")
    call["arguments"] = {"request": f"r-{JOB}", "count": 2}
    put(entries, "answer", {"outcome": "info"}, call=call["call"])


def nobody_asked(entries: Entries) -> None:
    put(entries, "job", {"name": "stranger"}, job_id=JOB)


def run_of_nobody(entries: Entries) -> None:
    entries += late(ran("j9"))


def lock_was_taken(entries: Entries) -> None:
    put(entries, "start", {"alone": False}, job_id=JOB)


def second_run(entries: Entries, number: int, epoch: int, at: int) -> None:
    start = find(entries, "start", job_id=JOB)
    entries.append({**start, "attempt": number, "epoch": epoch, "pid": 8, "at": at})


def lives_on(entries: Entries) -> None:
    second_run(entries, 2, 2, find(entries, "start", job_id=JOB)["at"] + 1)


def same_attempt_again(entries: Entries) -> None:
    second_run(entries, 1, 1, 10**9)


def old_lease(entries: Entries) -> None:
    second_run(entries, 2, 1, 10**9)


def started_twice(entries: Entries) -> None:
    spawned = find(entries, "spawned", key=f"default/{JOB}/1/1")
    entries.append({**spawned, "pid": 8})


def never_ran(entries: Entries) -> None:
    entries[:] = [each for each in entries if each.get("job_id") != JOB or each["by"] != "witness"]


def other_code(entries: Entries) -> None:
    put(entries, "end", {"code": 3}, job_id=JOB)


def no_end(entries: Entries) -> None:
    without(entries, "end", job_id=JOB)


def success_with_failure(entries: Entries) -> None:
    put(entries, "end", {"code": 3}, job_id=JOB)
    put(entries, "job", {"attempts": [attempt(exit_code=3)]}, job_id=JOB)


def runner_saw_another(entries: Entries) -> None:
    put(entries, "ended", {"code": 3}, key=f"default/{JOB}/1/1")


def two_ends(entries: Entries) -> None:
    ended = find(entries, "ended", key=f"default/{JOB}/1/1")
    entries.append({**ended, "code": 3})


def attempt_missing(entries: Entries) -> None:
    put(entries, "job", {"attempt_count": 2}, job_id=JOB)


def uncounted_failure(entries: Entries) -> None:
    failed = {"attempts": [attempt("FAILED", None), attempt(number=2)], "attempt_count": 2}
    put(entries, "job", failed, job_id=JOB)


def uncounted_loss(entries: Entries) -> None:
    lost = {"attempts": [attempt("LOST", None), attempt(number=2)], "attempt_count": 2}
    put(entries, "job", lost, job_id=JOB)


def too_many_failures(entries: Entries) -> None:
    failed = {"attempts": [attempt("FAILED", None), attempt("FAILED", None, 2)]}
    put(entries, "job", {**failed, "attempt_count": 2, "failure_count": 2}, job_id=JOB)


def over_the_limit(entries: Entries) -> None:
    put(entries, "beat", {"at": find(entries, "start", job_id=CHILD)["at"] + 1}, job_id=JOB)


def over_the_slots(entries: Entries) -> None:
    put(entries, "slots", {"most": 0.5})


def child_first(entries: Entries) -> None:
    put(entries, "start", {"at": 1}, job_id=CHILD)


def gap(entries: Entries) -> None:
    without(entries, "event", job_id=JOB, revision=3)


def other_state(entries: Entries) -> None:
    put(entries, "job", {"state": "FAILED"}, job_id=JOB)


def events_of_nobody(entries: Entries) -> None:
    entries.append({**event("j9", 1, "CREATED", None, "QUEUED"), "at": 10**9, "order": 10**6})


def job_without_events(entries: Entries) -> None:
    entries[:] = [each for each in entries if each["what"] != "event" or each["job_id"] != JOB]


def no_move(entries: Entries) -> None:
    put(entries, "event", {"kind": "FAILED"}, job_id=JOB, revision=4)


def jump(entries: Entries) -> None:
    put(entries, "event", {"previous": "STOPPING"}, job_id=JOB, revision=4)


def after_the_end(entries: Entries) -> None:
    put(entries, "event", {"kind": "MOVED", "previous": "SUCCEEDED"}, job_id=JOB, revision=4)
    put(entries, "event", {"kind": "SUCCEEDED", "state": "SUCCEEDED"}, job_id=JOB, revision=3)


def not_final(entries: Entries) -> None:
    put(entries, "job", {"state": "RUNNING"}, job_id=JOB)


def older_answer(entries: Entries) -> None:
    entries += late(asked("get", {"job_id": JOB}, {"revision": 3, "state": "RUNNING"}))


def frame_twice(entries: Entries) -> None:
    frame = find(entries, "frame", revision=4)
    entries.append({**frame, "at": 10**9})


def frame_missing(entries: Entries) -> None:
    without(entries, "frame", revision=3)


def last_frame_missing(entries: Entries) -> None:
    without(entries, "frame", revision=4)


def other_frame(entries: Entries) -> None:
    put(entries, "frame", {"kind": "FAILED", "state": "FAILED"}, revision=4)


def bytes_again(entries: Entries) -> None:
    put(entries, "output", {"pieces": [[0, 15], [0, 15]]})


def other_bytes(entries: Entries) -> None:
    put(entries, "output", {"text": "default/j1/1/1 0\n"})


def claimed_out_of_turn(entries: Entries) -> None:
    put(entries, "event", {"wall_us": -1}, job_id=JOB, revision=1)
    claimed = find(entries, "event", job_id=JOB, kind="CLAIMED")
    claimed["order"] = find(entries, "event", job_id=CHILD, kind="CLAIMED")["order"] + 0.5
    put(entries, "event", {"order": claimed["order"] + 0.1}, job_id=JOB, revision=3)
    put(entries, "event", {"order": claimed["order"] + 0.2}, job_id=JOB, revision=4)


def two_leaders(entries: Entries) -> None:
    put(entries, "lead", {"epoch": 1}, server="w2")


def cancelled_and_alive(entries: Entries) -> None:
    result(entries, "cancel", lives=True)


def beats_after_the_cancel(entries: Entries) -> None:
    put(entries, "beat", {"at": 10**9}, job_id=STOPPED)


def cancelled_and_started(entries: Entries) -> None:
    put(entries, "start", {"at": 10**9}, job_id=STOPPED)


def cancelled_and_not_final(entries: Entries) -> None:
    put(entries, "job", {"state": "STOPPING"}, job_id=STOPPED)


def deleted_and_there(entries: Entries) -> None:
    entries.append({**job(GONE, "CANCELLED", 1), "at": 10**9})


def deleted_and_alive(entries: Entries) -> None:
    result(entries, "delete", lives=True)


def deleted_and_heard(entries: Entries) -> None:
    entries += late(ran(GONE))


def directory_left(entries: Entries) -> None:
    put(entries, "directory", {"job_id": GONE})


def claimed_in_the_pause(entries: Entries) -> None:
    put(entries, "event", {"wall_us": 1_500, "attempt": 1}, job_id=JOB, kind="CLAIMED")


def fired_twice(entries: Entries) -> None:
    put(entries, "job", {"schedule_us": EVERY_US}, job_id=f"{FIRED}2")


def fire_missing(entries: Entries) -> None:
    put(entries, "job", {"schedule_us": 3 * EVERY_US}, job_id=f"{FIRED}2")


def leftover(entries: Entries) -> None:
    entries.append({"what": "left", "by": "harness", "at": 1, "kind": "process", "name": "sleep"})


SPOILT: list[tuple[str, Spoil]] = [
    ("no_acknowledged_job_is_lost", lose_row),
    ("a_request_makes_its_jobs_once", second_set_of_jobs),
    ("a_request_makes_its_jobs_once", refused_and_made),
    ("a_request_makes_its_jobs_once", half_a_batch),
    ("no_job_comes_from_nowhere", nobody_asked),
    ("no_job_comes_from_nowhere", run_of_nobody),
    ("one_attempt_lives_at_a_time", lock_was_taken),
    ("one_attempt_lives_at_a_time", lives_on),
    ("an_attempt_runs_once", same_attempt_again),
    ("an_attempt_runs_once", old_lease),
    ("an_attempt_runs_once", started_twice),
    ("ends_are_told_as_they_were", never_ran),
    ("ends_are_told_as_they_were", other_code),
    ("ends_are_told_as_they_were", no_end),
    ("ends_are_told_as_they_were", success_with_failure),
    ("the_runner_saw_the_same_ends", runner_saw_another),
    ("the_runner_saw_the_same_ends", two_ends),
    ("attempts_are_counted", attempt_missing),
    ("attempts_are_counted", uncounted_failure),
    ("attempts_are_counted", uncounted_loss),
    ("attempts_are_counted", too_many_failures),
    ("limits_are_kept", over_the_limit),
    ("limits_are_kept", over_the_slots),
    ("dependencies_come_first", child_first),
    ("events_have_no_gap", gap),
    ("events_have_no_gap", other_state),
    ("events_have_no_gap", events_of_nobody),
    ("events_have_no_gap", job_without_events),
    ("moves_are_those_of_the_table", no_move),
    ("moves_are_those_of_the_table", jump),
    ("moves_are_those_of_the_table", after_the_end),
    ("every_job_ends", not_final),
    ("reads_never_go_back", older_answer),
    ("watchers_miss_and_repeat_nothing", frame_twice),
    ("watchers_miss_and_repeat_nothing", frame_missing),
    ("watchers_miss_and_repeat_nothing", last_frame_missing),
    ("watchers_hear_what_the_store_has", other_frame),
    ("output_is_exact", bytes_again),
    ("output_is_exact", other_bytes),
    ("jobs_start_in_order", claimed_out_of_turn),
    ("an_epoch_has_one_leader", two_leaders),
    ("cancelled_means_gone", cancelled_and_alive),
    ("cancelled_means_gone", beats_after_the_cancel),
    ("a_cancel_ends_its_job", cancelled_and_started),
    ("a_cancel_ends_its_job", cancelled_and_not_final),
    ("a_delete_leaves_nothing", deleted_and_there),
    ("a_delete_leaves_nothing", deleted_and_alive),
    ("a_delete_leaves_nothing", deleted_and_heard),
    ("a_delete_leaves_nothing", directory_left),
    ("a_paused_queue_starts_nothing", claimed_in_the_pause),
    ("schedules_fire_once", fired_twice),
    ("schedules_fire_once", fire_missing),
    ("the_world_is_clean", leftover),
]


def test_a_good_history_passes() -> None:
    verdict = judged(good())
    assert verdict.findings == {}
    assert verdict.outcome is Outcome.PASSED
    assert (verdict.kills, verdict.jobs) == (1, 6)


@pytest.mark.parametrize(("name", "spoil"), SPOILT, ids=[each.__name__ for _, each in SPOILT])
def test_what_is_wrong_is_found(name: str, spoil: Spoil) -> None:
    entries = good()
    spoil(entries)
    verdict = judged(entries)
    assert verdict.outcome is Outcome.FAILED
    assert name in verdict.findings, verdict


@pytest.mark.parametrize(
    "change",
    [
        ("servers", {"count": 2}, {}),
        ("event", {"wall_us": 1}, {"job_id": JOB, "revision": 1}),
        ("job", {"priority": -1}, {"job_id": JOB}),
    ],
    ids=["several servers", "a clock that was set back", "another priority"],
)
def test_order_is_asked_for_only_where_it_is_promised(
    change: tuple[str, dict[str, object], dict[str, object]],
) -> None:
    entries = good()
    claimed_out_of_turn(entries)
    what, new, fields = change
    put(entries, what, new, **fields)
    assert judged(entries).outcome is Outcome.PASSED


def test_a_claim_that_waited_for_the_resume_is_no_claim_in_the_pause() -> None:
    entries = good()
    claimed_in_the_pause(entries)
    put(entries, "call", {"at": find(entries, "start", job_id=JOB)["at"] - 1}, method="pause")
    put(entries, "call", {"at": find(entries, "start", job_id=JOB)["at"] - 1}, method="resume")
    assert judged(entries).outcome is Outcome.PASSED


def test_what_went_with_a_deleted_job_may_be_missed_and_not_repeated() -> None:
    entries = good()
    told = [(1, "CREATED", "QUEUED"), (2, "CLAIMED", "RUNNING"), (5, "CANCELLED", "CANCELLED")]
    entries += late(frames(GONE, *told))
    assert judged(entries).outcome is Outcome.PASSED
    entries += late(frames(GONE, told[-1]), 2 * 10**9)
    assert "watchers_miss_and_repeat_nothing" in judged(entries).findings


def test_every_invariant_has_a_history_that_breaks_it() -> None:
    assert {name for name, _ in SPOILT} == {each.__name__ for each in INVARIANTS}


@pytest.mark.parametrize(("kills", "jobs"), [(2, 1), (1, 100)], ids=["few kills", "few jobs"])
def test_too_little_is_inconclusive(kills: int, jobs: int) -> None:
    verdict = judged(good(), least_kills=kills, least_jobs=jobs)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "inconclusive" in str(verdict)


def test_without_any_fault_it_is_inconclusive() -> None:
    entries = good()
    without(entries, "fault")
    assert judged(entries, least_kills=0, least_jobs=0).outcome is Outcome.INCONCLUSIVE


def test_a_finding_counts_however_little_happened() -> None:
    entries = good()
    leftover(entries)
    verdict = judged(entries, least_kills=100)
    assert verdict.outcome is Outcome.FAILED
    assert "the_world_is_clean: process: sleep" in str(verdict)


def test_records_are_read_in_the_order_of_time_and_a_torn_end_is_left_out(tmp_path: Path) -> None:
    first, second = Recorder(tmp_path, "first"), Recorder(tmp_path, "second")
    first.note("fault", kind="kill server")
    second.note("fault", kind="cut")
    first.note("fault", kind="freeze")
    first.close()
    second.close()
    with (tmp_path / "first.jsonl").open("a") as file:
        file.write('{"by": "first", "wh')
    assert [entry["kind"] for entry in read_records(tmp_path)] == ["kill server", "cut", "freeze"]
    with (tmp_path / "second.jsonl").open("a") as file:
        file.write("{\n" + json.dumps({"what": "fault", "at": 0}) + "\n")
    with pytest.raises(ValueError, match=r"second.jsonl:2 is damaged"):
        read_records(tmp_path)
