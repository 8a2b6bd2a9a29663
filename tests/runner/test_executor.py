"""The executor of this host, on a real runner."""

import asyncio
import datetime as dt
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import uvloop

import jobservice
from jobservice.errors import ExecutorUnavailable
from jobservice.executors.port import (
    Ended,
    Executor,
    KnownAttempt,
    Phase,
    Progressed,
    Report,
    Started,
    StartOrder,
)
from jobservice.executors.process import ProcessExecutor, _reports, _text, version_numbers
from jobservice.model.attempt import Cause, Fence
from jobservice.testing.wait import wait_until
from tests.runner.harness import Host, is_gone


class Worker:
    """Hears an executor out."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.reports: list[Report] = []
        self.lost = 0
        self.deaf = 0
        """How many frames it fails at."""
        self._heard = asyncio.Event()

    async def connect(self) -> Sequence[KnownAttempt]:
        return await self.executor.connect(self._hear, self._lose)

    def _hear(self, reports: Sequence[Report]) -> None:
        self._heard.set()
        if self.deaf:
            self.deaf -= 1
            raise OverflowError
        self.reports += reports

    def _lose(self) -> None:
        self.lost += 1
        self._heard.set()

    async def until(self, fact: Callable[[], Any]) -> Any:
        async with asyncio.timeout(20):
            while not (answer := fact()):
                self._heard.clear()
                await self._heard.wait()
            return answer

    async def end_of(self, fence: Fence) -> Ended:
        def look() -> Ended | None:
            ends = [r for r in self.reports if isinstance(r, Ended) and r.fence == fence]
            return ends[-1] if ends else None

        end = await self.until(look)
        assert isinstance(end, Ended)
        return end


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def in_both_loops(
    test: Callable[[Host, Worker], Coroutine[Any, Any, None]],
) -> Callable[[Host, str], None]:
    """Run a test under asyncio's own loop and under uvloop."""

    @pytest.mark.parametrize("loop", LOOPS)
    def run(plain_host: Host, loop: str) -> None:
        async def body() -> None:
            worker = Worker(ProcessExecutor(plain_host.directory))
            try:
                await test(plain_host, worker)
            finally:
                await worker.executor.close(stop_runner=False)

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(body())

    run.__name__ = test.__name__
    return run


def fence(number: int = 1) -> Fence:
    return Fence("default", f"j{number}", 1, 1)


def order(host: Host, number: int, command: str, stdin: bytes = b"") -> StartOrder:
    return StartOrder(
        fence(number), host.attempts / "s" / f"j{number}-1", ["sh", "-c", command], {"A": "1"},
        stdin, None, None, 1.0, 1 << 20,
    )  # fmt: skip


@in_both_loops
async def test_an_attempt_from_start_to_end(plain_host: Host, worker: Worker) -> None:
    before = dt.datetime.now(dt.UTC)
    assert list(await worker.connect()) == []
    worker.executor.start(
        [
            order(
                plain_host,
                1,
                "cat; echo 30 half > $JOBSERVICE_PROGRESS;"
                " echo $JOBSERVICE_JOB_ID $JOBSERVICE_ATTEMPT; exit 7",
                b"in\n",
            )
        ]
    )
    end = await worker.end_of(fence())
    kinds = [type(report) for report in worker.reports]
    assert kinds == [Started, Progressed, Ended]
    started, progressed = worker.reports[0], worker.reports[1]
    assert isinstance(started, Started)
    assert isinstance(progressed, Progressed)
    assert (progressed.percent, progressed.step) == (30.0, "half")
    assert (end.outcome.cause, end.outcome.exit_code) == (Cause.EXIT, 7)
    assert end.outcome.started_at == started.started_at
    assert before - dt.timedelta(seconds=1) < started.started_at <= end.outcome.ended_at
    assert (plain_host.attempts / "s" / "j1-1" / "stdout").read_text() == "in\nj1 1\n"
    worker.executor.acknowledge([fence()])


@in_both_loops
async def test_a_worker_that_cannot_hear_a_frame_keeps_the_link(
    plain_host: Host, worker: Worker
) -> None:
    worker.deaf = 1
    with structlog.testing.capture_logs() as lines:
        await worker.connect()
        worker.executor.start([order(plain_host, 1, "exec sleep 600")])
        await worker.until(lambda: not worker.deaf)
        worker.executor.stop([fence()])
        await worker.end_of(fence())
    assert [line["event"] for line in lines] == ["reports_not_heard"]
    assert lines[0]["exc_info"]
    assert worker.lost == 0


def test_what_makes_no_sense_in_a_frame_keeps_nothing_else_away() -> None:
    key, other = str(fence(1)), str(fence(2))
    end = {"key": key, "cause": "of a later version"}
    frame = {
        "type": "reports",
        "started": [[key, 1_000], [other, 1_000, 7]],
        "progress": [[key, 1_000, 50, None], [other, 1_000, 50, "half"]],
        "ended": [end],
    }
    with structlog.testing.capture_logs() as lines:
        reports = list(_reports(frame))
    assert [(type(each), each.fence) for each in reports] == [
        (Started, fence(2)),
        (Progressed, fence(2)),
    ]
    assert [line["event"] for line in lines] == ["report_makes_no_sense"] * 3


@in_both_loops
async def test_a_batch_with_large_inputs(plain_host: Host, worker: Worker) -> None:
    await worker.connect()
    worker.executor.start(
        [order(plain_host, n, "wc -c", b"x" * 3_000_000 if n % 4 == 0 else b"x") for n in range(12)]
    )
    for number in range(12):
        end = await worker.end_of(fence(number))
        assert end.outcome.exit_code == 0
        text = (plain_host.attempts / "s" / f"j{number}-1" / "stdout").read_text()
        assert int(text) == (3_000_000 if number % 4 == 0 else 1)


@in_both_loops
async def test_adoption_by_another_executor(plain_host: Host, worker: Worker) -> None:
    await worker.connect()
    worker.executor.start([order(plain_host, 1, "exec sleep 600")])
    await worker.until(lambda: worker.reports)
    await worker.executor.close(stop_runner=False)
    second = Worker(ProcessExecutor(plain_host.directory))
    (known,) = await second.connect()
    started = worker.reports[0]
    assert isinstance(started, Started)
    assert known == KnownAttempt(fence(), Phase.RUNNING, started.started_at, started.pid)
    assert worker.lost == 0
    second.executor.stop([fence()])
    assert (await second.end_of(fence())).outcome.cause == Cause.STOP
    second.executor.acknowledge([fence()])
    await second.executor.close(stop_runner=True)
    wait_until(lambda: is_gone(plain_host.pid))


@in_both_loops
async def test_a_dead_runner_is_lost_and_replaced(plain_host: Host, worker: Worker) -> None:
    await worker.connect()
    worker.executor.start([order(plain_host, 1, "exec sleep 600")])
    await worker.until(lambda: worker.reports)
    os.kill(plain_host.pid, signal.SIGKILL)
    await worker.until(lambda: worker.lost)
    assert worker.lost == 1
    worker.executor.stop([fence()])  # nobody is there: no harm
    known = await worker.connect()
    assert [line.phase for line in known] == [Phase.ENDED]
    end = await worker.end_of(fence())
    assert end.outcome.cause == Cause.LOST


@in_both_loops
async def test_an_older_runner_becomes_this_version(plain_host: Host, worker: Worker) -> None:
    raw = plain_host.begin(flags=("--software", "0.0.9"))
    raw.start(plain_host.order(str(fence()), "exec sleep 600"))
    pid = raw.pid_of(str(fence()))
    runner = plain_host.pid
    (known,) = await worker.connect()
    assert (known.pid, plain_host.pid) == (pid, runner)
    assert plain_host.connect().hello["software"] == jobservice.__version__
    await worker.connect()
    worker.executor.stop([fence()])
    assert (await worker.end_of(fence())).outcome.cause == Cause.STOP


async def test_a_runner_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "attempts").write_text("in the way")
    with pytest.raises(ExecutorUnavailable, match="attempts"):
        await Worker(ProcessExecutor(tmp_path)).connect()


@in_both_loops
async def test_two_that_start_at_once_share_one_runner(plain_host: Host, worker: Worker) -> None:
    workers = [worker, *(Worker(ProcessExecutor(plain_host.directory)) for _ in range(2))]
    await asyncio.gather(*(each.connect() for each in workers), return_exceptions=True)
    assert await workers[0].connect() == []
    for each in workers:
        await each.executor.close(stop_runner=False)


def test_versions_are_compared_by_their_numbers() -> None:
    assert version_numbers("0.9.1") < version_numbers("0.10.0")
    assert version_numbers("1.2.dev3") == (1, 2)
    assert version_numbers("x") == ()


@pytest.mark.parametrize(
    ("said", "kept"), [("a\0b", "a\ufffdb"), ("\ud800x", "?x"), ("ü\n", "ü\n"), ("", "")]
)
def test_what_no_store_can_keep_is_replaced(said: str, kept: str) -> None:
    assert _text(said) == kept
