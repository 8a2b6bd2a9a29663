"""`jobservice workers` with a real service: what it prints, how it exits; and `worker` refused."""

from pathlib import Path

from tests.cli.conftest import Shell


def test_the_worker_of_the_service_is_shown_drained_and_resumed(shell: Shell) -> None:
    [worker] = shell.ok("workers", "list", "--json").objects
    name = worker["worker_id"]
    assert (worker["state"], worker["embedded"]) == ("WORKER_STATE_ACTIVE", True)
    headline, line = shell.ok("workers", "list").lines
    assert headline.split()[:3] == ["WORKER", "STATE", "RUNNING"]
    assert line.split()[:2] == [name, "ACTIVE"]
    drained = shell.ok("workers", "drain", name, "--reason", "new disks")
    assert drained.out == f"{name} DRAINING, running 0 of 4\n"
    assert "new disks" in shell.ok("workers", "get", name).out
    waiting = shell.submit("--", "true")
    assert shell.state(waiting) == "JOB_STATE_QUEUED"
    assert shell.ok("workers", "resume", name).out == f"{name} ACTIVE, running 0 of 4\n"
    assert shell.ok("wait", waiting).out.split()[1] == "SUCCEEDED"
    refused = shell("workers", "get", "nobody")
    assert (refused.code, "WORKER_NOT_FOUND" in refused.err) == (66, True)


def test_a_worker_that_makes_no_sense_says_why(alone: Shell, tmp_path: Path) -> None:
    place = str(tmp_path / "w")
    refused = alone("worker", "--data-dir", place)
    assert (refused.code, "--server: Field required" in refused.err) == (78, True)
    refused = alone("worker", "--data-dir", place, "--server", "no port")
    assert refused.code == 78
    refused = alone("worker", "--data-dir", place, "--server", "host")
    assert (refused.code, "HOST:PORT; got 'host'" in refused.err) == (2, True)
