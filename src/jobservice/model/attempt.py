"""An attempt: one try of a job, the fence that guards its writes, and how it may end."""

import dataclasses
import datetime as dt
import enum


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Fence:
    """What a write about an attempt must carry; only the newest fence of a job is obeyed.

    `attempt` counts the tries of a job from 1. `epoch` counts its leases: a lease that was handed
    back before a process existed uses up an epoch and no attempt.
    """

    tenant: str
    job_id: str
    attempt: int
    epoch: int

    def __str__(self) -> str:
        return f"{self.tenant}/{self.job_id}/{self.attempt}/{self.epoch}"

    @classmethod
    def parse(cls, text: str) -> "Fence":
        """The fence whose `str()` is `text`; ValueError for anything else."""
        tenant, job_id, attempt, epoch = text.split("/")
        return cls(tenant, job_id, int(attempt), int(epoch))


class Cause(enum.StrEnum):
    """Why an attempt has no process any more; what that means for the job, the engine decides."""

    EXIT = "exit"
    """The process ended by itself: see `exit_code` or `signal`."""
    STOP = "stop"
    """It was asked to stop while it lived, and its tree is gone."""
    RUN_TIMEOUT = "run_timeout"
    """It ran longer than its run timeout and was stopped; its tree is gone."""
    IDLE_TIMEOUT = "idle_timeout"
    """It was silent for longer than its idle timeout and was stopped; its tree is gone."""
    LAUNCH_FAILED = "launch_failed"
    """No process came to be; `message` says which step failed, on what, and the errno."""
    LOST = "lost"
    """Its runner or worker was lost; nothing is known of its end, and its tree is gone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, as its executor saw it. Instants are the executor's clock."""

    cause: Cause
    ended_at: dt.datetime
    started_at: dt.datetime | None = None
    """None where no process ever ran."""
    exit_code: int | None = None
    """0..255 where the process exited; None where a signal ended it or none ran."""
    signal: int | None = None
    """The number of the signal that ended the process."""
    message: str = ""
    """One sentence for a person; empty where the numbers say it all."""
    cpu_s: float = 0.0
    """User and system time of the process and its reaped descendants."""
    max_rss_bytes: int = 0
    stdout_bytes: int = 0
    """Bytes written by the attempt, kept or not."""
    stderr_bytes: int = 0
    dropped_bytes: int = 0
    """Of both streams: what lies in the gap between the kept head and tail."""
