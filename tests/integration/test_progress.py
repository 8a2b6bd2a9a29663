"""Progress: what a job says of itself in the file that it is given."""

import datetime as dt
import functools
from pathlib import Path

import pytest

from jobservice import Client, Job, RetryPolicy, State
from jobservice.model.job import Progress
from jobservice.testing.wait import wait_until

REPORT = '>>"$JOBSERVICE_PROGRESS"'


def at(client: Client, job: Job, percent: float) -> Progress | None:
    """The progress of a job once it is that far."""
    found = client.get(job).progress
    return found if found and found.percent == percent else None


def at_the_end(client: Client, script: str) -> tuple[float | None, str]:
    done = client.wait(client.create(["sh", "-c", script]), timeout=30)
    assert done.state is State.SUCCEEDED
    return (done.progress.percent, done.progress.step) if done.progress else (None, "")


LINES = {
    f"echo 40 {REPORT}": (40.0, ""),
    f"echo '12.5%  counting  sheep ' {REPORT}": (12.5, "counting  sheep"),
    f"printf '10 a\\n20 b\\n30 c' {REPORT}": (30.0, "c"),
    f"echo 250 much {REPORT}": (100.0, "much"),
    f"echo -3 less {REPORT}": (0.0, "less"),
    f"echo 50 half {REPORT}; echo nonsense {REPORT}; echo nan {REPORT}": (50.0, "half"),
    f"echo 60 '{'x' * 300}' {REPORT}": (60.0, "x" * 300),
    f"printf '70 \\377\\n' {REPORT}": (70.0, "\ufffd"),
    f"printf '75 \\000half\\000\\n' {REPORT}": (75.0, "\ufffdhalf\ufffd"),
    f"echo 80 first {REPORT}; echo 81 second >$JOBSERVICE_PROGRESS": (81.0, "second"),
    'mkdir "$JOBSERVICE_PROGRESS"': (None, ""),
    'ln -s /etc/passwd "$JOBSERVICE_PROGRESS"': (None, ""),
    'mkfifo "$JOBSERVICE_PROGRESS"': (None, ""),
    ":": (None, ""),
}


@pytest.mark.parametrize("script", LINES)
def test_the_last_line_that_makes_sense_counts(local: Client, script: str) -> None:
    assert at_the_end(local, script) == LINES[script]


def test_progress_is_seen_while_the_job_runs(client: Client, tmp_path: Path) -> None:
    script = (
        f"cd {tmp_path}; for n in 20 60; do echo $n step $n {REPORT}; "
        "until test -e $n; do sleep 0.02; done; done"
    )
    job = client.create(["sh", "-c", script])

    for percent in (20.0, 60.0):
        found = wait_until(functools.partial(at, client, job, percent), timeout_s=10)
        assert found is not None
        assert found.step == f"step {percent:.0f}"
        started = client.get(job).started_at
        assert started is not None
        assert found.estimated_completion is not None
        share_s = (found.estimated_completion - started).total_seconds() * percent / 100
        now_s = (dt.datetime.now(dt.UTC) - started).total_seconds()
        assert 0 < share_s <= now_s, "the whole takes as long as the rate until now says"
        assert client.status(job).progress_percent == percent
        (tmp_path / f"{percent:.0f}").touch()
    client.wait(job, timeout=20)


def test_an_attempt_begins_without_progress(local: Client, tmp_path: Path) -> None:
    script = (
        f"test $JOBSERVICE_ATTEMPT = 1 && {{ echo 90 almost {REPORT}; exit 1; }}; "
        f"until test -e {tmp_path}/gate; do sleep 0.05; done"
    )
    policy = RetryPolicy(max_attempts=2, initial_backoff=dt.timedelta(0))
    job = local.create(["sh", "-c", script], retry_policy=policy)
    wait_until(lambda: local.get(job).attempt_count == 2)
    assert local.get(job).progress is None
    assert local.status(job).progress_percent is None
    (tmp_path / "gate").touch()
    assert local.wait(job, timeout=20).state is State.SUCCEEDED
