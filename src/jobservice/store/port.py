"""The store port: where jobs live. Verbs take lists; one is a batch of one.

Rules that hold for every verb that writes:

- One call is one transaction, and it is durable when it returns. Calls that wait together may be
  committed together; each of them is still done as a whole or not at all.
- A change of a job's state and its event are written in the same transaction, and the event's
  `revision` is the job's, counted on by one. Only the engine decides a state: where the next state
  depends on the stored one, the engine passes a pure function (`Settle`), or the statement's own
  guard names the source states that `model/lifecycle.py` allows.
- A write about an attempt carries its `Fence`. A stale fence changes nothing and is answered with
  False (or None): that is an ordinary answer, not an error.
- Time, ids and randomness are arguments. No verb asks a clock.
- Every verb names its tenant, or takes records that do.

Nothing here may rest on what one engine has and the other lacks: no rowid, no commit order of a
sequence, tokens are opaque strings.

Raises, everywhere: `StoreFull` when the disk is full, `StoreUnavailable` when the database cannot be
used now, `StoreBusy` when it takes too long, `LimitExceeded` when too many calls wait; in these cases
nothing was changed. `DeadlineExceeded` when nobody knows whether it was.
"""

import dataclasses
import datetime as dt
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from jobservice.model.attempt import Fence
from jobservice.model.event import Change
from jobservice.model.filter import Filter
from jobservice.model.graph import Verdict
from jobservice.model.job import AttemptState, Edits, Job, NewJob
from jobservice.model.lease import AttemptEnd as AttemptEnd
from jobservice.model.lease import AttemptStart as AttemptStart
from jobservice.model.lease import Claim as Claim
from jobservice.model.lease import LeaseAnswer as LeaseAnswer
from jobservice.model.lease import LiveAttempt as LiveAttempt
from jobservice.model.lease import ProgressReport as ProgressReport
from jobservice.model.lifecycle import Reason, State, Trigger
from jobservice.model.limit import Limit, LimitKind
from jobservice.model.operation import Place
from jobservice.model.queue import Move, Queue
from jobservice.model.spec import JobSpec, RetryPolicy
from jobservice.store.array_port import ArrayStore
from jobservice.store.lead_port import Lead, LeadStore
from jobservice.store.log_port import LogStore
from jobservice.store.operation_port import OperationStore
from jobservice.store.rule_port import COUNTED_DEPTH as COUNTED_DEPTH
from jobservice.store.rule_port import FLOW_EVENTS as FLOW_EVENTS
from jobservice.store.rule_port import FLOW_WINDOW as FLOW_WINDOW
from jobservice.store.rule_port import Holder as Holder
from jobservice.store.rule_port import QueueCounts as QueueCounts
from jobservice.store.rule_port import RuleStore
from jobservice.store.schedule_port import ScheduleStore
from jobservice.store.worker_port import WorkerStore

# --- submit -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes a create happen once."""

    request_id: str
    digest: bytes
    """Of the request's body; equal bodies have equal digests."""


class Insertion(enum.Enum):
    """What became of an insert."""

    CREATED = enum.auto()
    REPEATED = enum.auto()
    """The request_id is known with the same digest: `job_ids` are the jobs of then."""
    CONFLICT = enum.auto()
    """The request_id is known with another digest: `job_ids` are the jobs of then; nothing was
    created."""
    NO_PARENT = enum.auto()
    """Dependencies name jobs that nobody knows, those in `missing`; nothing was created."""
    DRAINED = enum.auto()
    """`queue` takes no new jobs; nothing was created."""
    QUEUE_FULL = enum.auto()
    """`queue` is full, and nobody gives way; nothing was created."""
    STOOD_FOR = enum.auto()
    """`queue` is full, `key` is taken, or another has the unique key: `job_ids` stand for the new jobs;
    nothing was created."""
    KEY_TAKEN = enum.auto()
    """`key` is taken, by `job_ids` and perhaps more; nothing was created."""
    DUPLICATE = enum.auto()
    """The one of `job_ids`, or the job at `twin`, has the unique `key` of the job at `place`; nothing
    was created."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """Where a new job that depends on others begins."""

    state: State
    revision: int
    reason: Reason
    message: str
    start_at: dt.datetime | None
    ended_at: dt.datetime | None
    cause_job_id: str
    verdicts: tuple[Verdict, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Inserted:
    """The answer of `insert_jobs`."""

    insertion: Insertion
    job_ids: tuple[str, ...]
    """Where CREATED, of the jobs at their places: new ones, or those that stand for them."""
    arrivals: Mapping[str, Arrival] = dataclasses.field(default_factory=dict)
    """By id: of the new jobs that depend on others."""
    missing: tuple[tuple[int, int], ...] = ()
    """Places of jobs in the call, and of dependencies in these, that name a job that nobody knows."""
    queue: str = ""
    """The one that is drained or full."""
    bound: str = ""
    """Why it is full, in words."""
    key: str = ""
    """The one that is taken."""
    stopped: tuple[Fence, ...] = ()
    """Attempts of other jobs that have to end for the new one."""
    replaces: bool = False
    """Whether jobs that waited have ended for the new one."""
    place: int = 0
    """In the call: of the job that is refused."""
    twin: int | None = None
    """The place of another job of the call that is in its way."""
    standing: Mapping[str, Job] = dataclasses.field(default_factory=dict)
    """By id: jobs that stand for new ones, without variables, input and attempts."""
    requested_at: dt.datetime | None = None
    """When a REPEATED request was first made."""


# --- attempts ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class LiveJob:
    """What a decision about the end of an attempt may rest on, read in the same transaction."""

    tenant: str
    job_id: str
    state: State
    """RUNNING or STOPPING."""
    retry: RetryPolicy
    failure_count: int
    lost_count: int
    delete_requested: bool
    has_children: bool = False
    """Whether others depend on it."""
    is_index: bool = False
    """Whether it is one of an array."""
    reason: Reason = Reason.NONE
    """Why a STOPPING one is to end."""
    message: str = ""
    is_of_schedule: bool = False
    """Whether a schedule made it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement:
    """What the engine decided: how the attempt is remembered, and where the job goes."""

    attempt_state: AttemptState
    trigger: Trigger
    state: State
    """`step(live.state, trigger)`."""
    reason: Reason = Reason.NONE
    message: str = ""
    start_at: dt.datetime | None = None
    """When the job goes to SCHEDULED."""
    failures: int = 0
    """What is added to `failure_count`."""
    losses: int = 0
    """What is added to `lost_count`."""


Settle = Callable[[LiveJob, AttemptEnd], Settlement]
"""Pure and quick: it runs inside the transaction."""


@dataclasses.dataclass(frozen=True, slots=True)
class Woken:
    """What a sweep over the keys of parked jobs did."""

    count: int
    after: tuple[str, str] | None
    """Tenant and key behind which the next call goes on; None after the last one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim came to."""

    claims: list[Claim]
    opened: bool = False
    """The turn of an array came: its indices are to be made."""
    waits_for_rate: bool = False
    """A job was parked until a rate allows it: the time of the next due one may have changed."""


# --- stop, edit, delete -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class StopRequest:
    """Someone asks for the end of a job."""

    tenant: str
    job_id: str
    delete: bool = False
    """Also record, in the same transaction, that the job is to be deleted once it is final."""
    edit_version: int | None = None
    """When given, the job must be at this version."""
    message: str = ""
    """Why, for a person; empty where the caller does not say."""
    reason: Reason = Reason.USER


class Refusal(enum.Enum):
    """Why a verb about one job changed nothing."""

    NOT_FOUND = enum.auto()
    STALE = enum.auto()
    """The job's `edit_version` is another."""
    WRONG_STATE = enum.auto()
    OTHER_NOT_FOUND = enum.auto()
    """The other job that the verb is about is not there."""
    ELSEWHERE = enum.auto()
    """The other job stands in another queue, under another fairness key, or is the job itself."""
    EXISTS = enum.auto()
    """It was to be made, and is there already."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stopped:
    """Where a job is after a stop was asked for."""

    state: State
    """CANCELLED, STOPPING, or the final state that it had already."""
    fence: Fence | None
    """Of the attempt that has to end, when it is STOPPING."""


@dataclasses.dataclass(frozen=True, slots=True)
class TimedOut:
    """Jobs whose time was over."""

    count: int
    stopping: tuple[Fence, ...]
    """Of the attempts that have to end."""


@dataclasses.dataclass(frozen=True, slots=True)
class JobKey:
    """A job of a tenant."""

    tenant: str
    job_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class MoveCall:
    """Someone wants a queued job at another place."""

    key: JobKey
    move: Move
    other: str | None
    """The job to stand next to, for BEFORE and AFTER."""
    now_us: int

    @property
    def keys(self) -> list[JobKey]:
        """The job, and the other where there is one."""
        return [self.key] if self.other is None else [self.key, JobKey(self.key.tenant, self.other)]


@dataclasses.dataclass(frozen=True, slots=True)
class Deletable:
    """A final job whose deletion was asked for."""

    key: JobKey
    attempt_count: int


# --- reads ------------------------------------------------------------------------------------


class Order(enum.Enum):
    """The orders of a list; ties go by job id in the same direction."""

    CREATED_ASC = enum.auto()
    CREATED_DESC = enum.auto()
    ENDED_DESC = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs, in which order. Every given filter must hold."""

    tenant: str
    order: Order
    states: frozenset[State]
    """Never empty: "any" is all states."""
    queue: str = ""
    name: str = ""
    """The whole name, or with `name_is_prefix` how it begins; empty is any."""
    name_is_prefix: bool = False
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ended_from: dt.datetime | None = None
    ended_before: dt.datetime | None = None
    filter: Filter | None = None
    created_before: dt.datetime | None = None
    full: bool = False
    """Also read `env` and `stdin`."""


@dataclasses.dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs of a query, and where the next ones begin."""

    jobs: tuple[Job, ...]
    cursor: str | None
    """Opaque; None when there are no more."""


@dataclasses.dataclass(frozen=True, slots=True)
class TargetPage:
    """Some jobs of a query, by their keys, and how far the walk came."""

    jobs: tuple[JobKey, ...]
    place: Place | None
    """The last job that was looked at; None when there are no more."""


@dataclasses.dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in order."""

    changes: tuple[Change, ...]
    position: str
    """Of the last one, or as asked where there is none: go on from here."""


class Store(
    ScheduleStore, OperationStore, RuleStore, ArrayStore, LeadStore, WorkerStore, LogStore, Protocol
):
    """The verbs. See the head of the module for what holds for all of them."""

    def led(self, lead: Lead) -> "Store":
        """The same store for who leads: each write of it is obeyed only while that lead is the newest.

        Else it raises `Deposed`, and nothing was changed. Not for the verbs of the lead itself.
        """

    # submit

    async def insert_jobs(
        self,
        jobs: Sequence[NewJob],
        *,
        request: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Inserted:
        """Store new jobs with their CREATED events: all of them or none.

        All jobs are of one tenant. With `request`, the same transaction looks the request_id up and
        records it. A job that depends on others, of any age or of the same call, is BLOCKED unless its
        dependencies are decided now; circles are the caller's to refuse. No job for which another may
        stand by its unique key is depended on within the call, and one that replaces others is alone.
        With `validate_only` the answer is the same and nothing is written.
        """

    # attempts

    async def claim_jobs(
        self, *, worker_id: str, limit: int, lease_until: dt.datetime, now: dt.datetime
    ) -> Claimed:
        """Lease up to `limit` QUEUED jobs: RUNNING, with a new attempt STARTING.

        None from a queue that a pause holds, and none over a limit of the service, a tenant, a queue
        or a concurrency key; these are judged by the live leases in the same transaction. Tenants take
        turns, and in a tenant its fairness keys; within one the order is `claim_key`.
        """

    async def start_attempts(self, starts: Sequence[AttemptStart]) -> list[bool]:
        """Record that processes exist: the attempt is RUNNING, the job has a STARTED event."""

    async def finish_attempts(
        self, ends: Sequence[AttemptEnd], settle: Settle, *, now: dt.datetime
    ) -> list[Settlement | None]:
        """Record ends: the attempt is closed, the job goes where `settle` says. None: stale fence.

        An end whose attempt was never recorded as started is given the outcome's `started_at`.
        """

    async def unclaim_attempts(self, fences: Sequence[Fence], *, now: dt.datetime) -> list[bool]:
        """Hand back leases of attempts that have no process.

        RUNNING goes to QUEUED at its old place, the attempt leaves no trace and its number is used
        again, the epoch is not. A STOPPING job is left alone and answered with False: finish it.
        """

    async def extend_leases(
        self, fences: Sequence[Fence], *, lease_until: dt.datetime
    ) -> list[LeaseAnswer]:
        """Prolong leases, and hear what became of their jobs meanwhile."""

    async def expire_leases(self, settle: Settle, *, now: dt.datetime, limit: int) -> list[Fence]:
        """End attempts whose lease is over as LOST; but not of who minds no silence (`note_contact`)."""

    async def list_live(self, worker_id: str) -> list[LiveAttempt]:
        """Every attempt that the worker holds a lease on."""

    async def record_progress(self, reports: Sequence[ProgressReport]) -> list[bool]:
        """Keep the newest progress of live attempts. Not a transition: no revision is used."""

    async def settle_children(self, *, now: dt.datetime, limit: int) -> int:
        """Tell the children of up to `limit` jobs what a transaction before had no room for.

        Whatever makes a job final, or runs it again, tells those that depend on it in its own
        transaction, up to about 1,000 of them and 32 down a chain. Returns of how many jobs.
        """

    async def release_due(self, *, now: dt.datetime, limit: int) -> int:
        """Move SCHEDULED jobs whose `start_at` has come to QUEUED; returns how many."""

    async def wake_parked(self, after: tuple[str, str], *, now: dt.datetime) -> Woken:
        """Let claims look again at jobs that wait for concurrency keys which are free.

        Ends, cancels and changed limits do so by themselves: this finds what they missed.
        """

    async def wake_rates(self, *, now: dt.datetime, limit: int) -> int:
        """Let claims look again at jobs whose rate allows a start now; returns how many."""

    async def time_out_jobs(self, *, now: dt.datetime, limit: int) -> TimedOut:
        """End jobs whose time is over, the longest over first.

        Those that were QUEUED for longer than their `queue_timeout` are FAILED with QUEUE_TIMEOUT.
        Those whose total time or deadline is over are FAILED with TOTAL_TIMEOUT where they wait, and
        STOPPING with that reason where an attempt runs.
        """

    # what users ask of one job

    async def request_stop(
        self, stops: Sequence[StopRequest], *, now: dt.datetime
    ) -> list[Stopped | Refusal]:
        """End waiting jobs at once (CANCELLED, reason USER), turn RUNNING ones to STOPPING.

        Final and STOPPING jobs are left as they are. With `delete`, the wish to delete is recorded
        in every state.
        """

    async def update_job(
        self, key: JobKey, edits: Edits, *, edit_version: int | None, now: dt.datetime
    ) -> Job | Refusal:
        """Change fields, count `edit_version` up, with an UPDATED event.

        A new `start_after` moves the start of a SCHEDULED job that never had an attempt, and takes
        the place of its `start_delay`. WRONG_STATE when one of the fields may not be edited in the
        job's state, or the job is to be deleted.
        """

    async def retry_job(self, key: JobKey, *, now: dt.datetime) -> Job | Refusal:
        """Queue a final job again: counters of failures and losses back to 0, attempts go on.

        What was skipped or held because of it is BLOCKED again, and so on down. The job itself does not
        wait for those it depends on. Its total time is counted anew. WRONG_STATE when it is not final,
        is to be deleted, or its deadline has passed.
        """

    async def hold_job(self, key: JobKey, *, now: dt.datetime) -> Job | Refusal:
        """Keep a waiting job from starting; one that is HELD is left as it is.

        WRONG_STATE when it is live or final, or is to be deleted.
        """

    async def release_job(self, key: JobKey, *, now: dt.datetime) -> Job | Refusal:
        """Let a HELD job go on waiting: QUEUED by priority and age, or SCHEDULED if its time is ahead.

        One that was BLOCKED is so again, and moves on at once if it is decided now; one that is held
        because its dependencies were not met runs regardless. Others that are not final are left as
        they are; WRONG_STATE when it is final.
        """

    async def move_job(
        self, key: JobKey, move: Move, other: str | None, *, now: dt.datetime
    ) -> Job | Refusal:
        """Give a QUEUED job another place, with a MOVED event.

        Only jobs of one queue and fairness key are in one order: ELSEWHERE for others. A change of
        priority, a hold or a retry gives it a place by priority and age again.
        """

    async def list_deletable(self, *, limit: int, after: JobKey | None = None) -> list[Deletable]:
        """Final jobs whose deletion was asked for, in order; their files are to be removed now."""

    async def delete_jobs(self, keys: Sequence[JobKey], *, now: dt.datetime) -> list[bool]:
        """Remove every row of final jobs whose deletion was asked for; leave tombstones.

        False also while children of a job are yet to be told of its end, and where one changed in the
        same transaction. What is left at other servers, `list_left_files` tells.
        """

    async def forget(self, *, before: dt.datetime, limit: int) -> int:
        """Drop request ids and tombstones that are older; returns how many rows."""

    # queues and limits

    async def save_queue(
        self,
        tenant: str,
        name: str,
        edits: Mapping[str, object],
        *,
        create: bool,
        edit_version: int | None,
        now: dt.datetime,
    ) -> Queue | Refusal:
        """Make a queue, or change fields of one; no claim obeys the old rules when this returns.

        EXISTS where it is to be made and is there; NOT_FOUND where it is to be changed and is not,
        but for the default queue, which is made then.
        """

    async def delete_queue(
        self, tenant: str, name: str, *, edit_version: int | None
    ) -> Refusal | None:
        """Forget the rules of a queue; WRONG_STATE while a job of it is QUEUED or live."""

    async def save_limit(self, limit: Limit, *, now: dt.datetime) -> None:
        """Make or change a limit; no claim obeys the old one when this returns."""

    async def delete_limit(self, tenant: str, kind: LimitKind, name: str) -> bool:
        """Forget a limit; False where there is none."""

    # reads

    async def find_targets(
        self, query: JobQuery, *, behind: Place | None, limit: int
    ) -> TargetPage:
        """The next jobs of a query in the order CREATED_ASC."""

    async def find_job(self, key: JobKey) -> Job | None:
        """One job in full, with its attempts."""

    async def find_jobs(self, keys: Sequence[JobKey]) -> list[Job | None]:
        """Jobs in full without their attempts, in the order asked."""

    async def find_submitted(self, keys: Sequence[JobKey]) -> list[JobSpec | None]:
        """What was submitted, whatever was edited since, in the order asked."""

    async def list_jobs(self, query: JobQuery, *, limit: int, cursor: str | None) -> JobPage:
        """A page by keyset. A cursor that is not one of this order raises PageTokenInvalid."""

    async def queue_position(self, key: JobKey, *, limit: int) -> int | None:
        """How many QUEUED jobs of the tenant come before this one; None when it is not QUEUED.

        Counts no further than `limit`.
        """

    async def next_due_at(self) -> dt.datetime | None:
        """The earliest `start_at` of a SCHEDULED job."""

    async def next_resume_at(self, after: dt.datetime) -> dt.datetime | None:
        """The earliest end of a queue's pause behind an instant."""

    async def next_time_out_at(self) -> dt.datetime | None:
        """When the time of a job is over next; see `time_out_jobs`."""

    async def next_lease_end_at(self) -> dt.datetime | None:
        """The earliest end of a lease."""

    async def head_position(self) -> str:
        """The position of the newest change."""

    async def list_changes(self, after: str, *, limit: int) -> ChangePage:
        """Changes of all tenants behind a position, in order: no gap, no repeat.

        Raises:
            ResumeTokenExpired: changes behind `after` were dropped already, or it is no position.
        """

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Have `callback` called in the event loop after commits. A hint: it may be late or missing."""

    def on_hint(self, callback: Callable[[], None]) -> None:
        """The same when another server may have changed something."""

    async def close(self) -> None:
        """Finish what waits and let go of the database."""
