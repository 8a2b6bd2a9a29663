"""Deliberate bugs: each is caught by the cheapest test that is named here, which passes without it."""

import collections
import os
import re
import subprocess
import sys

import pytest

from jobservice.errors import SetupError
from jobservice.mutants import NAMES, VARIABLE, Mutants
from tests.arch import tree

pytestmark = pytest.mark.xdist_group("suites")  # they need not wait for those that mind the time

CAUGHT_BY = {
    "adopt.forgets": "worker/test_loop.py::test_a_restarted_worker_adopts_what_runs",
    "cancel.answered_early": (
        "client/test_jobs.py::test_cancel_that_waits_returns_when_it_is_final"
    ),
    "commit.answered_early": "store/test_writer.py::test_no_call_is_answered_before_its_commit",
    "commit.unsynced": "store/test_disk.py::test_what_is_acknowledged_was_synced",
    "delete.leaves_files": (
        "blobs/test_disk.py"
        "::test_remove_takes_all_attempts_and_the_empty_shard_but_nothing_behind_links"
    ),
    "delete.leaves_rows": (
        "conformance/test_delete.py::test_a_deleted_job_is_gone_but_for_a_tombstone"
    ),
    "dependency.not_told": "conformance/test_dependencies.py::test_a_diamond_runs_its_end_once",
    "end.told_once": "worker/test_loop.py::test_ends_wait_for_a_store_that_is_away",
    "event.without_move": (
        "conformance/test_start.py::test_a_hold_does_not_shorten_the_wait_for_the_start"
    ),
    "fence.ignored": "conformance/test_fences.py::test_a_stale_fence_writes_nothing",
    "key.not_woken": (
        "conformance/test_waking.py::test_a_waiter_in_a_paused_queue_is_in_nobodys_way"
    ),
    "lease.never_over": "conformance/test_leases.py::test_a_lease_is_over_at_its_instant",
    "lease.over_early": "conformance/test_leases.py::test_a_lease_is_over_at_its_instant",
    "limit.counted_aside": (
        "conformance/test_limits.py::test_leases_are_counted_whatever_becomes_of_them"
    ),
    "limit.not_alone": (
        "store/test_postgres.py::test_a_claim_that_waited_while_the_queue_was_emptied_finds_nothing"
    ),
    "limit.read_once": "conformance/test_limits.py::test_a_queue_runs_no_more_than_it_may",
    "misfire.one_more": (
        "model/test_firing.py::test_it_does_what_a_model_does_that_goes_through_every_second"
    ),
    "output.begins_again": (
        "integration/test_logs.py::test_streams_are_kept_apart_and_read_from_any_offset"
    ),
    "pause.ignored": "conformance/test_limits.py::test_nothing_starts_from_a_queue_on_hold",
    "request.any_body": (
        "conformance/test_submit.py::test_a_request_id_with_another_body_is_a_conflict"
    ),
    "request.forgotten": (
        "conformance/test_submit.py::test_a_repeated_request_is_answered_with_the_jobs_of_then"
    ),
    "restore.keeps_leases": "store/test_backup.py::test_the_leases_of_a_backup_are_over",
    "retry.not_counted": (
        "engine/test_finish.py::test_failures_of_the_job_fail_it_or_are_tried_again"
    ),
    "runner.kills_parent_alone": "runner/test_trees.py::test_a_stop_is_term_then_kill",
    "schedule.at_or_after": (
        "model/test_timing.py::test_each_elapsed_hour_counts_when_it_goes_on_in_real_time"
    ),
    "silence.not_minded": (
        "worker/test_silence.py"
        "::test_in_company_all_ends_at_twenty_seconds_without_the_store_and_nothing_is_told"
    ),
    "timeout.early": "conformance/test_timeouts.py::test_a_wait_that_is_over_fails_the_job",
    "unique.ignored": "conformance/test_unique.py::test_a_job_counts_unless_it_is_final",
    "watch.forgets_its_place": (
        "engine/test_watch.py::test_one_who_comes_back_goes_on_where_it_was"
    ),
}
FAILED, PASSED = 1, 0
"""What pytest returns; any other number is that it could not run the tests."""
HANGS_S = 10
"""How long one of them is waited for that hangs because of its mutant."""


def run(*tests: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run tests in a process of their own, until the first that fails."""
    command = [sys.executable, "-m", "pytest", "--exitfirst", "--quiet", "-p", "no:cacheprovider"]
    if environment:
        command += ["--timeout", str(HANGS_S)]
    return subprocess.run(
        [*command, *(f"tests/{each}" for each in tests)],
        cwd=tree.ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", NAMES)
def test_a_deliberate_bug_is_caught(name: str) -> None:
    ran = run(CAUGHT_BY[name], **{VARIABLE: name})
    assert ran.returncode == FAILED, f"{NAMES[name]}, and nobody sees it:\n{ran.stdout[-2000:]}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_catches_them_passes_without() -> None:
    ran = run(*sorted(set(CAUGHT_BY.values())))
    assert ran.returncode == PASSED, ran.stdout[-4000:]


def test_every_deliberate_bug_is_made_in_one_place_and_caught_by_a_test() -> None:
    assert set(CAUGHT_BY) == set(NAMES)
    assert len(NAMES) >= 20
    used = collections.Counter(
        name
        for path in tree.python_files("src")
        for name in re.findall(r"\bmutant\(\"([\w.]+)\"\)", path.read_text())
    )
    assert used == dict.fromkeys(NAMES, 1)


def test_a_mutant_that_nobody_knows_is_refused() -> None:
    with pytest.raises(SetupError, match=r"names lease.sometimes; the mutants are adopt"):
        Mutants("lease.sometimes")
    assert not Mutants("").is_on("lease.never_over")
    assert Mutants("lease.never_over").is_on("lease.never_over")
