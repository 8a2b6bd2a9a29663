"""Real processes end to end, beside a bare loop in C that starts the same ones."""

import dataclasses
import subprocess
import time
from pathlib import Path

import grpc

from bench.report import Ratio, Row, Samples, per_round
from bench.service import Service, batch, connected, is_final, is_quiet, jobs_named, raw, read_logs
from bench.workplace import Workplace
from jobservice.model.lifecycle import State
from jobservice.wire import messages as pb

BATCH = 100
WARM_UP = 200
BARE_IN_FLIGHT = 2
LOOK_EVERY_S = 0.025
"""How often the job that was submitted last is looked at: rare enough to cost nothing, and what it
adds to the time of a round counts against us."""
LOOK_AGAIN_S = 0.005
"""How often it is then asked whether all are final; jobs start in order, so that is soon."""
OUTPUT_BYTES = 16
OUTPUTS_READ = 50


@dataclasses.dataclass
class _Rounds:
    """Processes per second, a value a round."""

    ours: list[float] = dataclasses.field(default_factory=list)
    bare: list[float] = dataclasses.field(default_factory=list)
    with_files: list[float] = dataclasses.field(default_factory=list)
    """The bare loop, where it makes a directory and a file for each process."""
    containment: str = ""


def measure_32(place: Workplace) -> list[Row]:
    """With 32 slots; also the loop with the same files made, and the other containment."""
    auto = _measure(place, 32, place.amount(2000, 600), (5, 3), "auto")
    other = _measure(place, 32, place.amount(500, 200), (3, 1), "subreaper")
    return [
        _row("spawn_32", "processes end to end, 32 slots / bare C loop", auto, 0.45, 0.55),
        Row(
            "",
            "… / the same loop with the same files made",
            Samples(auto.ours, "jobs/s"),
            Samples(auto.with_files, "/s"),
            Ratio(per_round(auto.ours, auto.with_files), percent=True),
        ),
        _row("", "… by subreaper / bare C loop", other),
    ]


def measure_2(place: Workplace) -> list[Row]:
    """With two slots, as many as the loop has in flight."""
    rounds = _measure(place, 2, place.amount(2000, 400), (5, 3), "auto")
    return [_row("spawn_2", "processes end to end, 2 slots / bare C loop", rounds, 0.25)]


def _row(
    name: str, what: str, rounds: _Rounds, required: float | None = None, aim: float | None = None
) -> Row:
    ratio = Ratio(per_round(rounds.ours, rounds.bare), required, aim, percent=True)
    ours, bare = Samples(rounds.ours, "jobs/s"), Samples(rounds.bare, "/s")
    note = f"contained by {rounds.containment}"
    return Row(name, what, ours, bare, ratio, [note] if name else [])


def _measure(
    place: Workplace, slots: int, jobs: int, counts: tuple[int, int], containment: str
) -> _Rounds:
    rounds = _Rounds()
    with (
        place.service("--containment", containment, slots=slots) as service,
        connected(service.unix_address) as channel,
    ):
        run_jobs(channel, batch(BATCH, place.stamp, name="warm-up"), WARM_UP)
        for number in place.rounds(*counts):
            request = batch(BATCH, place.stamp, name=f"round-{number}")
            rounds.ours.append(run_jobs(channel, request, jobs))
            rounds.bare.append(_run_loop(place, jobs))
            rounds.with_files.append(_run_loop(place, jobs, files=True))
        rounds.containment = _containment(service)
        for number in range(len(rounds.ours)):
            _check_done(channel, f"round-{number}", jobs)
    return rounds


def run_jobs(channel: grpc.Channel, request: bytes, count: int) -> float:
    """Jobs per second, submitted in batches, from the first until the last is final and recorded."""
    submit = raw(channel, "BatchCreateJobs")
    begin = time.perf_counter()
    answer = b""
    for _ in range(count // BATCH):
        answer = submit(request)
    last = pb.BatchCreateJobsResponse.FromString(answer).jobs[-1]
    while not is_final(channel, last.job_id):
        time.sleep(LOOK_EVERY_S)
    while not is_quiet(channel):
        time.sleep(LOOK_AGAIN_S)
    return count / (time.perf_counter() - begin)


def _run_loop(place: Workplace, count: int, *, files: bool = False) -> float:
    """Processes per second of the loop in C."""
    command = [place.spawn_loop, str(count), str(BARE_IN_FLIGHT), place.stamp]
    if files:
        root = place.path("attempts")
        root.mkdir()
        command.append(str(root))
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _check_done(channel: grpc.Channel, name: str, count: int) -> None:
    """Every job succeeded, and its output was kept: counted for all, read of some."""
    jobs = list(jobs_named(channel, name))
    assert len(jobs) == count, f"{len(jobs)} jobs of {count} are stored"
    done = sum(1 for job in jobs if State(job.state) is State.SUCCEEDED)
    assert done == count, f"{done} jobs of {count} succeeded"
    for job in jobs[:: max(1, count // OUTPUTS_READ)]:
        output = read_logs(channel, job.job_id)
        assert len(output) == OUTPUT_BYTES, f"the output of {job.job_id} is {output!r}"


def _containment(service: Service) -> str:
    """By what the trees are held together: the runner stands in a cgroup of its own, or does not."""
    runner = service.runner_pid()
    own = Path(f"/proc/{runner}/cgroup").read_text()
    return "cgroup" if "jobservice-" in own else "subreaper"
