"""Queues: the rules that people make for them, and how a queue moves.

A queue that nobody made exists all the same, with the default rules, as soon as a job names it. Here
only those that were made are found, and the default one, which is always there.
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping

from jobservice.engine.parts import Parts
from jobservice.errors import (
    EtagMismatch,
    InvalidRequest,
    QueueExists,
    QueueInUse,
    QueueNotFound,
    Violation,
)
from jobservice.model.bounds import LONGEST_AHEAD
from jobservice.model.lifecycle import State
from jobservice.model.limit import LimitKind, said_key
from jobservice.model.queue import RULES, Obstacle, Pause, PauseMode, Queue, QueueStats
from jobservice.model.spec import DEFAULT_QUEUE
from jobservice.store.port import FLOW_WINDOW, JobQuery, Order, QueueCounts, Refusal

JUDGED_JOBS = 100
"""How many of its oldest jobs say whether a queue waits for keys."""


async def create_queue(parts: Parts, queue: Queue) -> Queue:
    """Make a queue with rules.

    Raises:
        QueueExists: there is one of that name.
    """
    edits = {name: getattr(queue, name) for name in RULES}
    if queue.name == DEFAULT_QUEUE:
        raise _exists(queue.name)
    return await _save(parts, queue.tenant, queue.name, edits, create=True, edit_version=None)


async def get_queue(parts: Parts, tenant: str, name: str) -> Queue:
    """The rules of a queue.

    Raises:
        QueueNotFound: nobody made it.
    """
    found = await parts.store.find_queue(tenant, name)
    if found is not None:
        return _as_seen(found, parts.clock.now())
    if name == DEFAULT_QUEUE:
        return Queue(tenant, name)
    raise not_found(name)


async def list_queues(
    parts: Parts, tenant: str, *, limit: int, after: str
) -> tuple[list[Queue], str | None]:
    """Queues by name behind `after`, and the name behind which the next page begins."""
    found = await parts.store.list_queues(tenant, limit=limit + 1, after=after)
    if after < DEFAULT_QUEUE and all(each.name != DEFAULT_QUEUE for each in found):
        found = sorted([*found, Queue(tenant, DEFAULT_QUEUE)], key=lambda queue: queue.name)
    page, now = found[:limit], parts.clock.now()
    more = page[-1].name if len(found) > limit else None
    return [_as_seen(each, now) for each in page], more


async def update_queue(
    parts: Parts, tenant: str, name: str, edits: Mapping[str, object], *, edit_version: int | None
) -> Queue:
    """Change rules of a queue; they hold for the next start and the next create.

    Raises:
        QueueNotFound, EtagMismatch: as they say.
    """
    return await _save(parts, tenant, name, edits, create=False, edit_version=edit_version)


async def delete_queue(
    parts: Parts, tenant: str, name: str, *, edit_version: int | None, allow_missing: bool
) -> None:
    """Forget the rules of a queue in which nothing waits or runs.

    Raises:
        QueueNotFound, EtagMismatch: as they say.
        QueueInUse: a job waits or runs in it; or it is the default one, without rules.
    """
    refusal = await parts.store.delete_queue(tenant, name, edit_version=edit_version)
    if refusal is None or (refusal is Refusal.NOT_FOUND and allow_missing):
        return
    if refusal is Refusal.NOT_FOUND:
        raise _not_deleted(name)
    raise _refused(name, refusal)


def _not_deleted(name: str) -> Exception:
    """What to say of the delete of a queue that has no rules."""
    if name == DEFAULT_QUEUE:
        text = f"Queue {name} is always there; it cannot be deleted, and has no rules to forget."
        return QueueInUse(text, queue=name)
    text = f"Nobody made a queue {name}, so it has no rules to forget."
    return QueueNotFound(text, queue=name)


async def pause_queue(parts: Parts, tenant: str, name: str, pause: Pause) -> Queue:
    """Stop a queue; on one that is paused this is the new pause.

    Raises:
        QueueNotFound: nobody made it.
        InvalidRequest: the end of the pause is over, or too far ahead.
    """
    if pause.until is not None and not pause.since < pause.until <= pause.since + LONGEST_AHEAD:
        text = (
            f"must be ahead, and at most 10 years; it is {_at(pause.since)}, got {_at(pause.until)}"
        )
        raise InvalidRequest([Violation("resume_time", text, "NOT_AHEAD")])
    return await _save(parts, tenant, name, {"pause": pause}, create=False, edit_version=None)


async def resume_queue(parts: Parts, tenant: str, name: str) -> Queue:
    """End the pause of a queue; one that is not paused stays as it is.

    Raises:
        QueueNotFound: nobody made it.
    """
    queue = await get_queue(parts, tenant, name)
    if queue.pause is None:
        return queue
    return await _save(parts, tenant, name, {"pause": None}, create=False, edit_version=None)


async def _save(
    parts: Parts,
    tenant: str,
    name: str,
    edits: Mapping[str, object],
    *,
    create: bool,
    edit_version: int | None,
) -> Queue:
    now = parts.clock.now()
    answer = await parts.store.save_queue(
        tenant, name, edits, create=create, edit_version=edit_version, now=now
    )
    if isinstance(answer, Refusal):
        raise _refused(name, answer)
    parts.signals.work.ring()
    parts.signals.timers.ring()
    return _as_seen(answer, now)


def _as_seen(queue: Queue, now: dt.datetime) -> Queue:
    """Without a pause that is over."""
    if queue.pause is None or queue.pause.holds(now):
        return queue
    return dataclasses.replace(queue, pause=None)


def not_found(name: str) -> QueueNotFound:
    """What to say of a queue that nobody made."""
    return QueueNotFound(
        f"Nobody made a queue {name}. Jobs may name it all the same; make it to give it rules.",
        queue=name,
    )


def _exists(name: str) -> QueueExists:
    always = ", which is always there" if name == DEFAULT_QUEUE else " already"
    return QueueExists(f"There is a queue {name}{always}; change it instead.", queue=name)


def _refused(name: str, refusal: Refusal) -> Exception:
    match refusal:
        case Refusal.EXISTS:
            return _exists(name)
        case Refusal.STALE:
            text = (
                f"Queue {name} was changed since it was read; read it again and repeat the change."
            )
            return EtagMismatch(text, queue=name)
        case Refusal.WRONG_STATE:
            text = f"A job waits or runs in queue {name}; cancel its jobs, or move them to another."
            return QueueInUse(text, queue=name)
        case _:
            return not_found(name)


# --- how it moves -----------------------------------------------------------------------------


async def queue_stats(parts: Parts, tenant: str, name: str) -> QueueStats:
    """How full a queue is, how it moves, and what holds it up; also of one that nobody made."""
    now = parts.clock.now()
    counts = await parts.store.queue_counts(tenant, name, now=now)
    obstacle, message = Obstacle.NONE, ""
    if counts.depth:
        obstacle, message = await find_obstacle(parts, tenant, name) or await _keys_or_slots(
            parts, tenant, name
        )
    return QueueStats(
        name=name,
        depth=counts.depth,
        oldest_age=_age(counts, now),
        running=counts.running,
        created_per_second=counts.created / FLOW_WINDOW.total_seconds(),
        started_per_second=counts.claimed / FLOW_WINDOW.total_seconds(),
        obstacle=obstacle,
        obstacle_message=message,
    )


def _age(counts: QueueCounts, now: dt.datetime) -> dt.timedelta | None:
    if counts.oldest_queued_at is None:
        return None
    return max(now - counts.oldest_queued_at, dt.timedelta(0))


async def find_obstacle(parts: Parts, tenant: str, name: str) -> tuple[Obstacle, str] | None:
    """What keeps every job of a queue from starting, and a sentence about it."""
    store, now = parts.store, parts.clock.now()
    queue = await store.find_queue(tenant, name) or Queue(tenant, name)
    pause = queue.pause
    if pause is not None and pause.mode is PauseMode.HOLD and pause.holds(now):
        return Obstacle.PAUSED, f"queue {name} is paused{_until(pause)}"
    use = await store.list_use()
    running = use.queues.get((tenant, name), 0)
    if queue.max_running is not None and running >= queue.max_running:
        full = f"queue {name} is at its limit, {running} of {queue.max_running} running"
        return Obstacle.QUEUE_LIMIT, full
    limits = {each.kind: each for each in await store.list_limits(tenant, limit=2, after=FIRST)}
    for kind, running, obstacle, what in (
        (LimitKind.TENANT, use.tenants.get(tenant, 0), Obstacle.TENANT_LIMIT, "tenant"),
        (LimitKind.SERVICE, use.service, Obstacle.SERVICE_LIMIT, "service"),
    ):
        most = limits[kind].max_running if kind in limits else None
        if most is not None and running >= most:
            return obstacle, f"the {what} is at its limit, {running} of {most} running"
    return None


FIRST = ("", 0, "")
"""Before every limit; those of the service and of the tenant are the first."""


def _until(pause: Pause) -> str:
    until = f" until {_at(pause.until)}" if pause.until else ""
    return f"{until}: {pause.reason}" if pause.reason else until


def _at(instant: dt.datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")


async def _keys_or_slots(parts: Parts, tenant: str, name: str) -> tuple[Obstacle, str]:
    query = JobQuery(tenant, Order.CREATED_ASC, frozenset({State.QUEUED}), queue=name)
    page = await parts.store.list_jobs(query, limit=JUDGED_JOBS, cursor=None)
    keys = sorted({job.blocked_key for job in page.jobs})
    if page.jobs and "" not in keys:
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        named = ", ".join(map(said_key, keys[:3]))
        return Obstacle.KEYS, f"its oldest jobs wait for {named}{more}"
    return Obstacle.SLOTS, "its jobs wait for free slots"
