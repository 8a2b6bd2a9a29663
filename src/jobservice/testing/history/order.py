"""What must hold of order: who was queued first is claimed first; and one leads after another."""

import bisect
import collections
from collections.abc import Iterator, Sequence

from jobservice.testing.history.history import History
from jobservice.testing.history.record import Entry


def jobs_start_in_order(history: History) -> Iterator[str]:
    """Of jobs that differ in nothing that counts for their order, the first to be queued starts first.

    Those count that were queued by their create and stayed so until their first claim, of one queue,
    priority, fairness key and set of concurrency keys. The first of two is that which was committed
    before the other and has the earlier instant: a clock that is set back does put a job before others.
    Only a lone server promises it: one of several passes by what another is looking at.
    """
    if history.servers != 1:
        return
    alike: dict[tuple[object, ...], list[_Place]] = {}
    for job_id, job in history.jobs.items():
        events = history.events.get(job_id, ())
        if job["asks"] or job["array"] or [each["kind"] for each in events[:2]] != _AT_ONCE:
            continue
        group = job["queue"], job["priority"], job["fairness_key"], tuple(job["keys"])
        alike.setdefault(group, []).append(_Place(job_id, *events[:2]))
    for places in alike.values():
        yield from _passed(sorted(places, key=lambda place: place.created))


def an_epoch_has_one_leader(history: History) -> Iterator[str]:
    """No two servers lead under the same epoch, for then neither would be refused what it writes."""
    leaders: dict[int, set[str]] = collections.defaultdict(set)
    for lead in history.leads:
        leaders[lead["epoch"]].add(lead["server"])
    for epoch, servers in leaders.items():
        if len(servers) > 1:
            yield f"epoch {epoch} was led by {sorted(servers)}"


_AT_ONCE = ["CREATED", "CLAIMED"]


class _Place:
    """Where a job stood, and when it was claimed."""

    def __init__(self, job_id: str, created: Entry, claimed: Entry) -> None:
        self.job_id = job_id
        self.created: int = created["order"]
        self.queued_us: int = created["wall_us"]
        self.claimed: int = claimed["order"]


def _passed(places: Sequence[_Place]) -> Iterator[str]:
    """Those that were claimed before one that was both created and queued before them.

    Of all that were created before, `latest` keeps those that nobody queued earlier outlasts in the
    line: by their instants, and so by their claims.
    """
    instants: list[int] = []
    latest: list[_Place] = []
    for place in places:
        at = bisect.bisect_left(instants, place.queued_us)
        if at and latest[at - 1].claimed > place.claimed:
            yield f"{place.job_id} was claimed before {latest[at - 1].job_id}, which stood before it"
        if at and latest[at - 1].claimed >= place.claimed:
            continue
        end = at
        while end < len(latest) and latest[end].claimed <= place.claimed:
            end += 1
        instants[at:end], latest[at:end] = [place.queued_us], [place]
