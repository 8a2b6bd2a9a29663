"""The service as a worker on another host sees it: over gRPC, by any of several servers.

One server is asked until it does not answer, or answers that it cannot reach its database or is about
to leave; then the next one is. Each call has a deadline that is short against the time of a lease, so
that there is time to ask all of them before that is over. A call that fails is not made again here: the
worker makes it again, with what has come since.

What counts as contact is that leases were prolonged; or that every server that there is says that the
database is away, for then nobody takes them. One that says so alone may be cut off while another, which
does not hear of us, gives our jobs away.
"""

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from jobservice.clock import Clock
from jobservice.errors import (
    JobServiceError,
    StoreFull,
    StoreUnavailable,
    Unavailable,
)
from jobservice.model.attempt import Fence
from jobservice.model.lease import (
    AttemptEnd,
    AttemptStart,
    Claim,
    LeaseAnswer,
    LiveAttempt,
    ProgressReport,
)
from jobservice.model.output import LogAppend
from jobservice.model.worker import BEAT, WorkerInfo
from jobservice.telemetry import logger
from jobservice.wire import messages as pb
from jobservice.wire import times
from jobservice.wire import workers as wire
from jobservice.wire.status import from_rpc_error, is_foreign
from jobservice.wire.stubs import WorkerServiceStub

BATCH = 1_000
"""How much of a kind goes into one call."""
FIRST_CALL_S = 5.0
"""The deadline of a call while the time of a lease is not known."""
AGAIN_S = 1.0
"""After so long a broken stream of stops is opened anew."""
STREAM_S = 3600.0
STORE_IS_AWAY = StoreUnavailable, StoreFull
"""What a server answers that can write nothing, for its database does not answer it or is full.

Not that it takes too long: it may be one row that somebody holds, and other leases are given away."""
NEVER = float("-inf")
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
)


class RemoteService:
    """A `Dispatcher` over gRPC. All methods belong to the event loop."""

    def __init__(
        self,
        addresses: Sequence[str],
        clock: Clock,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._addresses = list(addresses)
        self._credentials = credentials
        """Who we are, where TCP goes with TLS."""
        self._clock = clock
        self._log = logger("remote")
        self._call_s = FIRST_CALL_S
        self._now = 0
        """The place of the server that is asked."""
        self._away_s = [NEVER] * len(addresses)
        """When each was asked that answered then that its database is away, of the monotonic clock."""
        self._channel: grpc.aio.Channel | None = None
        self._left: asyncio.Queue[grpc.aio.Channel] = asyncio.Queue()
        """Connections that are to be closed; as many as there were failures since."""
        self._hear_stops: Callable[[Sequence[Fence]], None] = lambda _: None
        self._hear_contact: Callable[[float], None] = lambda _: None

    # --- the verbs ----------------------------------------------------------------------------

    async def register(self, info: WorkerInfo) -> float:
        request = pb.RegisterWorkerRequest(worker=wire.info_message(info), origin=info.origin)
        answer = await self._call("RegisterWorker", request, is_sign_of_life=True)
        lease_s = times.to_timedelta(answer.lease).total_seconds()
        self._call_s = min(FIRST_CALL_S, lease_s * BEAT)
        return lease_s

    async def claim(self, worker_id: str, limit: int, wait_s: float) -> Sequence[Claim]:
        request = pb.ClaimJobsRequest(
            worker_id=worker_id, limit=limit, wait=times.duration(dt.timedelta(seconds=wait_s))
        )
        answer = await self._call("ClaimJobs", request, wait_s=wait_s)
        return list(map(wire.to_claim, answer.leases))

    async def start(self, starts: Sequence[AttemptStart]) -> Sequence[bool]:
        recorded: list[bool] = []
        for batch in _batches(starts):
            request = pb.StartAttemptsRequest(starts=map(wire.start_message, batch))
            recorded += (await self._call("StartAttempts", request)).recorded
        return recorded

    async def report_progress(self, reports: Sequence[ProgressReport]) -> Sequence[bool]:
        recorded: list[bool] = []
        for batch in _batches(reports):
            request = pb.ReportProgressRequest(reports=map(wire.progress_message, batch))
            recorded += (await self._call("ReportProgress", request)).recorded
        return recorded

    async def finish(self, ends: Sequence[AttemptEnd]) -> Sequence[bool]:
        recorded: list[bool] = []
        for batch in _batches(ends):
            request = pb.FinishAttemptsRequest(ends=map(wire.end_message, batch))
            recorded += (await self._call("FinishAttempts", request)).recorded
        return recorded

    async def unclaim(self, fences: Sequence[Fence]) -> Sequence[bool]:
        unclaimed: list[bool] = []
        for batch in _batches(fences):
            request = pb.UnclaimAttemptsRequest(fences=map(wire.fence_message, batch))
            unclaimed += (await self._call("UnclaimAttempts", request)).unclaimed
        return unclaimed

    async def extend(self, worker_id: str, fences: Sequence[Fence]) -> Sequence[LeaseAnswer]:
        called_s, answers = self._clock.monotonic_s(), list[LeaseAnswer]()
        for batch in _batches(fences) or [()]:  # also without any it is a sign of life
            request = pb.ExtendLeasesRequest(
                worker_id=worker_id, fences=map(wire.fence_message, batch)
            )
            answer = await self._call("ExtendLeases", request, is_sign_of_life=True)
            answers += map(wire.to_answer, answer.answers)
        self._hear_contact(called_s)
        return answers

    async def append_logs(self, appends: Sequence[LogAppend]) -> Sequence[int | None]:
        request = pb.AppendLogsRequest(appends=map(wire.append_message, appends))
        answer = await self._call("AppendLogs", request)
        return [each.end_offset if each.HasField("end_offset") else None for each in answer.ends]

    async def list_live(self, worker_id: str) -> Sequence[LiveAttempt]:
        answer = await self._call("ListLeases", pb.ListLeasesRequest(worker_id=worker_id))
        return [wire.to_live(each, worker_id) for each in answer.attempts]

    def on_stop(self, hear: Callable[[Sequence[Fence]], None]) -> None:
        self._hear_stops = hear

    def on_contact(self, hear: Callable[[float], None]) -> None:
        self._hear_contact = hear

    async def run(self, worker_id: str) -> None:
        """The loops: hear of stops, close connections. Ended by a cancel alone."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear_of_stops(worker_id))
            group.create_task(self._close_left())

    async def _close_left(self) -> None:
        while True:
            channel = await self._left.get()
            await channel.close()

    async def _hear_of_stops(self, worker_id: str) -> None:
        """Pass on which attempts are to end, as soon as the server says so."""
        while True:
            request = pb.WatchStopsRequest(worker_id=worker_id)
            try:
                async for response in self._stub().WatchStops(request, timeout=STREAM_S):
                    self._hear_stops(list(map(wire.to_fence, response.fences)))
            except grpc.RpcError:
                pass  # the extension of leases tells of stops too, and of servers that do not answer
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
            await self._clock.sleep(AGAIN_S)

    async def close(self) -> None:
        """Let go of all connections."""
        self._leave()
        while not self._left.empty():
            await self._left.get_nowait().close()

    # --- transport ----------------------------------------------------------------------------

    def _stub(self) -> Any:
        if self._channel is None:
            address = self._addresses[self._now]
            if self._credentials is None or address.startswith("unix:"):
                self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
            else:
                self._channel = grpc.aio.secure_channel(
                    address, self._credentials, options=CHANNEL_OPTIONS
                )
        return WorkerServiceStub(self._channel)

    async def _call(
        self, method: str, request: Any, *, wait_s: float = 0.0, is_sign_of_life: bool = False
    ) -> Any:
        """One try at the server of now.

        A server minds that it could not take a sign of life; so that alone counts as contact.

        Raises:
            Unavailable: it did not answer, or cannot act; the next call goes to another one.
            JobServiceError: what it answered.
        """
        place, called_s = self._now, self._clock.monotonic_s()
        try:
            call = getattr(self._stub(), method)
            return await call(request, timeout=wait_s + self._call_s)
        except grpc.RpcError as error:
            why = (error.details() or "").rpartition(": ")[2]  # the rest repeats the address
            failed = self._failed(place, from_rpc_error(error), why)
            if is_sign_of_life and isinstance(failed, STORE_IS_AWAY):
                self._hear_that_the_store_is_away(place, called_s)
            raise failed from None
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise self._silent(place) from None

    def _hear_that_the_store_is_away(self, place: int, called_s: float) -> None:
        self._away_s[place] = called_s
        if min(self._away_s) > NEVER:
            self._hear_contact(min(self._away_s))

    def _failed(self, place: int, error: JobServiceError, why: str) -> JobServiceError:
        if is_foreign(error):
            self._next(place)
            return self._silent(place, why)
        if isinstance(error, Unavailable | StoreFull):
            self._next(place)
        return error

    def _silent(self, place: int, why: str = "the connection was given up") -> Unavailable:
        address = self._addresses[place]
        return Unavailable(f"The server at {address} does not answer: {why}.", address=address)

    def _next(self, place: int) -> None:
        """Ask another server from now on; with one address, over a new connection."""
        if place != self._now or self._channel is None:
            return  # another call has said so already
        self._now = (place + 1) % len(self._addresses)
        self._leave()
        if self._now != place:
            left, new = self._addresses[place], self._addresses[self._now]
            self._log.warning("server_left", left=left, next=new)

    def _leave(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            self._left.put_nowait(channel)


def _is_cancelled() -> bool:
    """Whether it is we who are cancelled, and not a call whose channel was closed because of another."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _batches(items: Sequence[Any]) -> Sequence[Sequence[Any]]:
    return [items[begin : begin + BATCH] for begin in range(0, len(items), BATCH)]
