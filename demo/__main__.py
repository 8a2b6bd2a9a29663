"""The demo: a service on a fresh file, real jobs on real data, and a table of what became of them.

It uses nothing but `jobservice serve` and the public SDK. The jobs are the programs in `demo/jobs/`;
their results stay in `demo-data/results/`, or below another directory if one is given. Exits with 0
when everything went as it should.
"""

import contextlib
import datetime as dt
import json
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Unpack

from demo.show import Screen
from jobservice import Client, Job, JobServiceError, RetryPolicy, State
from jobservice.client.values import JobOptions
from jobservice.model.event import Event, EventKind

HERE = Path(__file__).resolve().parent
DATA = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else HERE.parent / "demo-data"
RESULTS = DATA / "results"
LIBRARY = sysconfig.get_path("stdlib")
LONGEST_WAIT_S = 120.0
MADE = {"archive": "library.tar.gz", "index": "library.sqlite", "words": "words.txt"}
"""The file in `results/` that a job makes, by the name of the job."""
UNTOLD = {EventKind.CLAIMED, EventKind.DUE}
"""Events that a viewer need not see: a started one follows at once."""


class Demo:
    """Submits jobs, follows them on the screen, and remembers what was expected of them."""

    def __init__(self, client: Client, screen: Screen) -> None:
        self._client = client
        self._screen = screen
        self._followers: list[threading.Thread] = []
        self.jobs: dict[str, Job] = {}
        self.endless_pids: list[int] = []
        self.endless_runs = threading.Event()

    def submit(
        self, program: str, *arguments: str | Path, over: Client | None = None,
        **options: Unpack[JobOptions],
    ) -> None:  # fmt: skip
        """Create a job that runs a program of `demo/jobs/`, and show all that is heard of it."""
        path = HERE / "jobs" / program
        interpreter = [sys.executable] if path.suffix == ".py" else []
        argv = [*interpreter, str(path), *map(str, arguments)]
        options.setdefault("name", path.stem)
        job = (over or self._client).create(argv, **options)
        name = job.spec.name
        self.jobs[name] = job
        self._screen.about(name, f"submitted as {job.job_id}")
        for follow in (self._follow_states, self._follow_output):
            thread = threading.Thread(target=quietly, args=(follow, name, job), daemon=True)
            thread.start()
            self._followers.append(thread)

    def finish(self, name: str) -> Job:
        """Wait until a job is final."""
        return self._client.wait(self.jobs[name], LONGEST_WAIT_S)

    def finish_all(self) -> None:
        """Wait until every job is final and all of it is on the screen."""
        for name in self.jobs:
            self.jobs[name] = self.finish(name)
        for thread in self._followers:
            thread.join(LONGEST_WAIT_S)

    def _follow_states(self, name: str, job: Job) -> None:
        shown = 0.0
        for update in self._client.watch([job]):
            if not isinstance(update, Event) or update.kind in UNTOLD:
                continue
            if update.kind is not EventKind.PROGRESS:
                self._screen.about(name, describe(update))
            elif update.progress and update.progress.percent >= shown + 10:
                shown = update.progress.percent
                self._screen.about(name, f"{shown:3.0f} %  {update.progress.step}")

    def _follow_output(self, name: str, job: Job) -> None:
        rest = b""
        for chunk in self._client.logs(job, follow=True):
            *lines, rest = (rest + chunk.data).split(b"\n")
            for line in lines:
                self._screen.output(name, line.decode(errors="replace"))
                if name == "endless":
                    self._note_process(line)

    def _note_process(self, line: bytes) -> None:
        self.endless_pids.append(int(line.split()[-1]))
        if len(self.endless_pids) == 3:
            self.endless_runs.set()


def quietly(follow: Callable[[str, Job], None], name: str, job: Job) -> None:
    """Follow a job until its end, or until the demo is over before it."""
    with contextlib.suppress(JobServiceError):
        follow(name, job)


def describe(event: Event) -> str:
    """An event in a few words."""
    text = event.kind.name.lower()
    if event.attempt:
        text += f", attempt {event.attempt}"
    if event.message:
        text += f": {event.message}"
    return text


def run(demo: Demo, over_tcp: Client, screen: Screen) -> None:
    """What the demo shows, in order."""
    archive = RESULTS / "library.tar.gz"
    index = RESULTS / "library.sqlite"
    patient = RetryPolicy(
        max_attempts=50,
        initial_backoff=dt.timedelta(seconds=1),
        max_backoff=dt.timedelta(seconds=2),
    )
    screen.say(
        "Six jobs, four slots. `verify` needs what `archive` makes, so it fails until that is there."
    )
    demo.submit("verify.py", archive, retry_policy=patient)
    demo.submit("endless.sh", stop_grace=1, timeout=600)
    demo.submit("archive.py", archive, priority="high")
    demo.submit("words.sh", LIBRARY, RESULTS / "words.txt")
    demo.submit("index.py", index)
    if demo.finish("index").state is State.SUCCEEDED:
        demo.submit("search.py", index, "compress", "archive", over=over_tcp)
    demo.finish("verify")
    if not demo.endless_runs.wait(LONGEST_WAIT_S):
        raise RuntimeError("the endless job did not say its process ids")
    screen.say(
        "`endless` ignores SIGTERM and has a helper outside its session. Cancel it, and wait:"
    )
    over_tcp.cancel(demo.jobs["endless"], wait=True, timeout=LONGEST_WAIT_S)
    demo.finish_all()


def failures(demo: Demo) -> list[str]:
    """What is not as it should be, in words."""
    found = []
    for name, job in demo.jobs.items():
        expected = State.CANCELLED if name == "endless" else State.SUCCEEDED
        if job.state is not expected:
            found.append(f"{name} is {job.state.name} and not {expected.name}: {job.message}")
    if "search" not in demo.jobs:
        found.append("search was not submitted")
    if demo.jobs["verify"].attempt_count < 2:
        found.append("verify was not retried")
    if demo.jobs["archive"].progress is None:
        found.append("archive reported no progress")
    if alive := [pid for pid in demo.endless_pids if Path(f"/proc/{pid}").exists()]:
        found.append(f"processes of the cancelled job live: {alive}")
    missing = [name for name in MADE.values() if not (RESULTS / name).exists()]
    return found + [f"{name} was not made" for name in missing]


def row_of(job: Job) -> list[str]:
    """A job as a line of the table."""
    last = job.attempts[-1]
    ran = last.ended_at - last.started_at if last.ended_at and last.started_at else dt.timedelta()
    output = sum(attempt.stdout_bytes + attempt.stderr_bytes for attempt in job.attempts)
    made = RESULTS / MADE.get(job.spec.name, "")
    return [
        job.spec.name,
        job.state.name,
        str(job.attempt_count),
        f"{ran.total_seconds():.1f} s",
        signal.Signals(last.signal).name if last.signal else str(last.exit_code),
        f"{output:,}",
        f"{made.name}, {made.stat().st_size:,} bytes" if made.is_file() else "",
    ]


def show_table(demo: Demo, screen: Screen) -> None:
    """What happened, one job a line."""
    rows = [row_of(job) for job in demo.jobs.values()]
    screen.say()
    screen.table(["job", "state", "attempts", "ran", "exit", "output bytes", "result"], rows)
    screen.say()


@contextlib.contextmanager
def service(screen: Screen) -> Iterator[subprocess.Popen[bytes]]:
    """`jobservice serve` on a fresh data directory; on the way out it is asked to end."""
    command = [
        str(Path(sys.executable).parent / "jobservice"), "serve", "--data-dir", str(DATA / "service"),
        "--listen", "127.0.0.1:0", "--slots", "4", "--stop-jobs",
    ]  # fmt: skip
    screen.say("$ " + " ".join(command))
    with (DATA / "service.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def addresses() -> list[str]:
    """Where the service says that it listens: the Unix socket, then TCP."""
    for line in (DATA / "service.log").read_text().splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("event") == "serving":
                return list(entry["addresses"])
    raise RuntimeError("the service does not say where it listens")


def main() -> int:
    """Run the demo; the exit code."""
    screen = Screen()
    began = time.monotonic()
    shutil.rmtree(DATA, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    try:
        with service(screen) as process:
            with Client(f"unix:{DATA}/service/jobservice.sock") as client:
                list(client.active())  # asked again until the service is there
                unix, tcp = addresses()
                screen.say(f"It listens on {unix} and {tcp}.")
                with Client(tcp) as over_tcp:
                    demo = Demo(client, screen)
                    run(demo, over_tcp, screen)
            show_table(demo, screen)
        found = failures(demo)
        if process.returncode != 0:
            found.append(f"the service ended with exit code {process.returncode}")
    except (JobServiceError, RuntimeError, subprocess.TimeoutExpired) as error:
        found = [str(error)]
    if found:
        print("The demo failed: " + "; ".join(found), file=sys.stderr)
        print(f"The log of the service is {DATA / 'service.log'}.", file=sys.stderr)
        return 1
    screen.say(
        f"All as it should be, in {time.monotonic() - began:.0f} s; the service has shut down. "
        f"Results: {RESULTS}; output of the jobs: {DATA / 'service' / 'attempts'}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
