"""`jobservice workers` with a real service: what it prints, how it exits; and `worker` refused."""

from pathlib import Path

from jobservice.testing.wait import wait_until
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
    [status] = shell.ok("status", waiting, "--json").objects
    assert status["state"] == "JOB_STATE_QUEUED"
    assert status["waiting_reason"] == (
        "waits for a worker: all of them are draining or silent; see jobservice workers list"
    )
    assert shell.ok("workers", "resume", name).out == f"{name} ACTIVE, running 0 of 4\n"
    assert shell.ok("wait", waiting).out.split()[1] == "SUCCEEDED"
    refused = shell("workers", "get", "nobody")
    assert (refused.code, "WORKER_NOT_FOUND" in refused.err) == (66, True)


def test_a_job_says_what_it_asks_of_its_worker_and_waits_for_one(shell: Shell) -> None:
    def waits(*asked: str) -> str:
        job = shell.submit(*asked, "--", "true")
        said = str(shell.ok("status", job, "--json").objects[0]["waiting_reason"])
        shell.ok("cancel", job)
        return said

    said = waits("--require-label", "gpu=a100", "--require-label", "zone=b")
    assert said == "waits for a worker with gpu=a100, zone=b: no worker has it"
    said = waits("--cpu", "1000.5", "--memory", "1TiB", "--resource", "gpu=2")
    assert said == (
        "waits for a worker that is large enough: it takes cpu 1000.5, memory 1 TiB, gpu 2, and "
        "no worker has so much"
    )
    [offered] = [each for each in shell.ok("workers", "list", "--json").objects if each["embedded"]]
    cpu = int(offered["resources"]["cpu_millis"]) / 1000
    first = shell.submit("--cpu", str(cpu), "--", "sleep", "600")
    wait_until(lambda: shell.state(first) == "JOB_STATE_RUNNING")
    said = waits("--cpu", "0.5")
    assert said == (
        "waits for room on a worker: it takes cpu 0.5, and the one that it fits on is full"
    )
    assert f"cpu {cpu:g}" in shell.ok("get", first).out
    shell.ok("cancel", "--wait", first)
    again = shell.submit("--cpu", "0.5", "--memory", "1MiB", "--", "true")
    assert shell.ok("wait", again).out.split()[1] == "SUCCEEDED"
    for wrong in (("--cpu", "x"), ("--memory", "4 parsecs"), ("--resource", "gpu=some")):
        assert shell("submit", *wrong, "--", "true").code == 2


def test_a_worker_that_makes_no_sense_says_why(alone: Shell, tmp_path: Path) -> None:
    place = str(tmp_path / "w")
    refused = alone("worker", "--data-dir", place)
    assert (refused.code, "--server: must be given" in refused.err) == (78, True)
    refused = alone("worker", "--data-dir", place, "--server", "no port")
    assert refused.code == 78
    refused = alone("worker", "--data-dir", place, "--server", "host")
    assert (refused.code, "--server: must be HOST:PORT" in refused.err) == (78, True)
