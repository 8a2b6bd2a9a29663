"""Limits and keys over the wire: what waits, why, and what lets it go on; and what is refused."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from jobservice import Client, ConcurrencyKey, Job, OnConflict
from jobservice.errors import AlreadyExists, LimitNotFound
from jobservice.model.lifecycle import State
from jobservice.model.limit import Limit, LimitKind, LimitUse, Rate
from jobservice.testing.server import Server
from jobservice.testing.virtual import VirtualService
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import LimitServiceStub
from tests.integration.bare import SLEEP, refused, running

SETTABLE = {LimitKind.SERVICE, LimitKind.TENANT, LimitKind.KEY, LimitKind.JOB_TYPE}


def clear(client: Client) -> None:
    """No job is active, and no limit is set any more."""
    for job in list(client.active()):
        client.cancel(job, wait=True)
    for use in list(client.limits.list()):
        if use.limit.kind in SETTABLE:
            client.limits.delete(use.limit.kind, use.limit.name, allow_missing=True)


@pytest.fixture
def here(local: Client) -> Iterator[Client]:
    """The SDK where four jobs run at once; no limit is left."""
    yield local
    clear(local)


@pytest.fixture
def stub(idle: Server) -> Iterator[LimitServiceStub]:
    """The bare API; no job ever starts and no limit is left."""
    with grpc.insecure_channel(idle.unix_address) as channel:
        yield LimitServiceStub(channel)
    with Client(idle.unix_address) as client:
        clear(client)


def use_of(client: Client, kind: LimitKind, name: str = "") -> LimitUse | None:
    found = [each for each in client.limits.list() if each.limit.kind is kind]
    return next((each for each in found if name in {"", each.limit.name}), None)


def waits_for(client: Client, job: Job, what: str) -> None:
    """The job is QUEUED, and says so."""
    wait_until(lambda: client.status(job).waiting_reason == what, what=what)
    assert client.get(job).state is State.QUEUED


# --- keys -----------------------------------------------------------------------------------------


def test_jobs_of_two_queues_share_a_key(here: Client) -> None:
    first = running(here, here.create(SLEEP, queue="one", keys=["db"]))
    second = here.create(SLEEP, queue="two", keys=["db"])
    waits_for(here, second, f"waits for key db, held by job {first.job_id}")
    assert here.wait(here.create(["true"], queue="two")).state is State.SUCCEEDED

    def is_waited_for() -> bool:
        found = use_of(here, LimitKind.KEY, "db")
        assert found is not None
        assert (found.limit.max_running, found.running) == (1, 1), "though nobody set a limit"
        assert found.holders == (first.job_id,)
        return found.waiting == 1

    wait_until(is_waited_for)
    here.cancel(first, wait=True)
    running(here, second)


def test_a_key_has_weights_and_a_limit_that_may_change(here: Client) -> None:
    here.limits.set("key", "gpu", max_running=3)
    heavy = running(here, here.create(SLEEP, keys=[ConcurrencyKey("gpu", weight=2)]))
    second = here.create(SLEEP, keys=[ConcurrencyKey("gpu", weight=2)])
    waits_for(here, second, f"waits for key gpu, held by job {heavy.job_id}")
    found = here.limits.get("key", "gpu")
    assert (found.running, found.limit.max_running) == (2, 3)
    here.limits.set("key", "gpu", max_running=4)
    running(here, second)
    here.limits.set("key", "gpu", max_running=1)
    third = here.create(SLEEP, keys=[ConcurrencyKey("gpu", weight=2)])
    waits_for(here, third, "waits for key gpu, of which it takes 2 and the limit is 1")
    assert {here.get(each).state for each in (heavy, second)} == {State.RUNNING}
    here.limits.delete("key", "gpu")
    with pytest.raises(LimitNotFound, match="Nobody set a limit on key gpu"):
        here.limits.get("key", "gpu")
    with pytest.raises(LimitNotFound):
        here.limits.delete("key", "gpu")


def test_jobs_of_a_type_share_its_limit(here: Client) -> None:
    first = running(here, here.create(SLEEP, job_type="render", queue="one"))
    assert use_of(here, LimitKind.JOB_TYPE, "render") == LimitUse(
        Limit("", LimitKind.JOB_TYPE, "render"), 1, 0, (first.job_id,)
    ), "listed though nobody set a limit, and without one"
    here.limits.set("job_type", "render", max_running=1)
    second = here.create(SLEEP, job_type="render", keys=["db"])
    waits_for(here, second, f"waits for job type render, held by job {first.job_id}")
    assert here.wait(here.create(["true"], job_type="index")).state is State.SUCCEEDED
    active = {job.job_id for job in here.active(filter="job_type = render")}
    assert active == {first.job_id, second.job_id}
    found = here.get(second)
    assert found.spec.job_type == "render"
    assert [key.key for key in found.spec.concurrency_keys] == ["db"]
    use = here.limits.get("job-type", "render")
    assert (use.limit.kind, use.limit.name) == (LimitKind.JOB_TYPE, "render")
    assert (use.running, use.limit.max_running, use.waiting) == (1, 1, 1)
    here.limits.delete("job_type", "render")
    running(here, second)
    with pytest.raises(LimitNotFound, match="Nobody set a limit on job type render"):
        here.limits.get("job_type", "render")


def test_a_rate_waits_and_does_not_fail(here: Client) -> None:
    here.limits.set("key", "api", rate=Rate(1, dt.timedelta(seconds=2)))
    jobs = [here.create(["true"], keys=[ConcurrencyKey("api", 10)]) for _ in range(2)]

    def tells_of_the_rate() -> bool:
        return "waits for the rate of key api, until 2" in here.status(jobs[1]).waiting_reason

    wait_until(tells_of_the_rate)
    found = here.limits.get("key", "api")
    assert found.limit.rate == Rate(1, dt.timedelta(seconds=2))
    first, second = (here.wait(job) for job in jobs)
    assert first.started_at is not None
    assert second.started_at is not None
    assert second.started_at - first.started_at > dt.timedelta(seconds=1)


def test_a_rate_starts_jobs_at_their_instants() -> None:
    with VirtualService() as service:
        client, begin = service.client, service.now
        client.limits.set("key", "api", rate=Rate(1, dt.timedelta(minutes=1), burst=2))
        jobs = [client.create(["x"], keys=[ConcurrencyKey("api", 9)]) for _ in range(5)]
        service.advance(dt.timedelta(minutes=5))
        started = [client.get(job).started_at for job in jobs]
    assert sorted(filter(None, started)) == [
        begin + dt.timedelta(minutes=n) for n in (0, 0, 1, 2, 3)
    ]


def test_what_is_asked_of_keys_comes_back(here: Client) -> None:
    first = ConcurrencyKey("a", 5, 2, OnConflict.QUEUE)
    job = here.create(["true"], keys=[first, "b"], fairness_key="team", fairness_weight=0.5)
    found = here.wait(job).spec
    assert found.concurrency_keys == (first, ConcurrencyKey("b"))
    assert (found.fairness_key, found.fairness_weight) == ("team", 500)
    [batched, _] = here.create_many([["true"]] * 2, keys=["b"], request_id="once")
    assert batched.spec.concurrency_keys == (ConcurrencyKey("b"),)
    with pytest.raises(AlreadyExists, match="with another concurrency_keys"):
        here.create_many([["true"]] * 2, keys=["c"], request_id="once")


def test_a_schedule_gives_its_jobs_keys(here: Client) -> None:
    here.schedules.create("keyed", ["true"], cron="0 0 1 1 *", job={"keys": ["a"]})
    try:
        job = here.schedules.trigger("keyed")
        assert here.wait(job).spec.concurrency_keys == (ConcurrencyKey("a"),)
    finally:
        here.schedules.delete("keyed")


def test_fairness_keys_take_turns(here: Client) -> None:
    here.limits.set("tenant", max_running=1)
    gate = running(here, here.create(SLEEP))
    many = here.create_many([["true"]] * 20, fairness_key="many")
    few = here.create_many([["true"]] * 2, fairness_key="few")
    here.cancel(gate, wait=True)
    ended = {job.job_id: here.wait(job).started_at for job in [*many, *few]}
    order = sorted(ended, key=lambda job_id: str(ended[job_id]))
    assert {order.index(job.job_id) for job in few} <= set(range(5))


# --- the service and the tenant -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LimitKind.SERVICE, LimitKind.TENANT])
def test_the_service_and_the_tenant_have_limits(here: Client, kind: LimitKind) -> None:
    here.limits.set(kind, max_running=2)
    jobs = [here.create(SLEEP) for _ in range(3)]
    for each in jobs[:2]:
        running(here, each)
    what = kind.name.lower()
    waits_for(here, jobs[2], f"waits because the {what} is at its limit, 2 of 2 running")
    found = here.limits.get(kind)
    assert (found.running, set(found.holders)) == (2, {each.job_id for each in jobs[:2]})
    here.limits.set(kind, max_running=3)
    running(here, jobs[2])


def test_every_limit_is_listed_with_its_use(here: Client) -> None:
    here.queues.create("q", max_running=1)
    here.limits.set("key", "named", max_running=9)
    job = running(here, here.create(SLEEP, queue="q", keys=["used"]))
    waits = here.create(["true"], queue="q")
    found = list(here.limits.list())
    shown = [(use.limit.kind, use.running, use.limit.max_running) for use in found]
    assert shown == [
        (LimitKind.SERVICE, 1, None),
        (LimitKind.TENANT, 1, None),
        (LimitKind.SLOTS, 1, 4),
        (LimitKind.QUEUE, 1, 1),
        (LimitKind.KEY, 0, 9),
        (LimitKind.KEY, 1, 1),
    ]
    assert [use.limit.name for use in found[3:]] == ["q", "named", "used"]
    assert [use.waiting for use in found] == [None, None, None, 1, 0, 0]
    assert [use.holders for use in found] == [(job.job_id,)] * 4 + [(), (job.job_id,)]
    for each in (waits, job):
        here.cancel(each, wait=True)
    here.queues.delete("q")


def test_limits_come_in_pages(stub: LimitServiceStub) -> None:
    for n in range(5):
        limit = pb.Limit(kind=pb.LimitKind.LIMIT_KIND_KEY, name=f"k{n}", max_running=1)
        stub.SetLimit(pb.SetLimitRequest(limit=limit))
    for size in (1, 2, 3, 8, 50):
        found, request = [], pb.ListLimitsRequest(page_size=size)
        while True:
            page = stub.ListLimits(request)
            found += [each.name for each in page.limits if each.kind == 3]
            assert len(page.limits) <= size
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == [f"k{n}" for n in range(5)]


# --- bad input ------------------------------------------------------------------------------------

KEY, TENANT = pb.LimitKind.LIMIT_KIND_KEY, pb.LimitKind.LIMIT_KIND_TENANT
JOB_TYPE = pb.LimitKind.LIMIT_KIND_JOB_TYPE
BAD: dict[str, tuple[str, Any, list[str]]] = {
    "no limit": ("SetLimit", pb.SetLimitRequest(), ["limit"]),
    "no kind": ("SetLimit", pb.SetLimitRequest(limit=pb.Limit(name="x")), ["limit.kind"]),
    "only listed": (
        "SetLimit",
        pb.SetLimitRequest(limit=pb.Limit(kind=pb.LimitKind.LIMIT_KIND_QUEUE, name="q")),
        ["limit.kind"],
    ),
    "everything": (
        "SetLimit",
        pb.SetLimitRequest(
            limit=pb.Limit(
                kind=TENANT,
                name="x" * 129,
                max_running=-1,
                rate=pb.Rate(starts=0, burst=-1),
                weight=5000,
            )
        ),
        ["limit.max_running", "limit.name", "limit.name", "limit.rate", "limit.rate.burst",
         "limit.rate.period", "limit.rate.starts", "limit.weight"],
    ),
    "a period": (
        "SetLimit",
        pb.SetLimitRequest(
            limit=pb.Limit(kind=KEY, name="k", rate=pb.Rate(starts=1, period=Duration(nanos=5)))
        ),
        ["limit.rate.period"],
    ),
    "a share of a key": (
        "SetLimit",
        pb.SetLimitRequest(limit=pb.Limit(kind=KEY, weight=2)),
        ["limit.name", "limit.weight"],
    ),
    "a key without a name": ("GetLimit", pb.GetLimitRequest(kind=KEY), ["name"]),
    "a type without a name": ("GetLimit", pb.GetLimitRequest(kind=JOB_TYPE), ["name"]),
    "a type that no job has": (
        "SetLimit",
        pb.SetLimitRequest(limit=pb.Limit(kind=JOB_TYPE, name="Render!", max_running=1)),
        ["limit.name"],
    ),
    "a tenant with a name": ("GetLimit", pb.GetLimitRequest(kind=TENANT, name="t"), ["name"]),
    "a page": ("ListLimits", pb.ListLimitsRequest(page_size=-1), ["page_size"]),
    "a delete": ("DeleteLimit", pb.DeleteLimitRequest(name="\n"), ["kind", "name"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_all_that_is_wrong(stub: LimitServiceStub, case: str) -> None:
    rpc, request, fields = BAD[case]
    found = refused(getattr(stub, rpc), request)
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert sorted(found.fields) == fields
    assert len(stub.ListLimits(pb.ListLimitsRequest()).limits) == 3


def test_an_error_names_the_limit(stub: LimitServiceStub) -> None:
    found = refused(stub.GetLimit, pb.GetLimitRequest(kind=KEY, name="none"))
    assert (found.code, found.reason) == ("NOT_FOUND", "LIMIT_NOT_FOUND")
    assert found.details["ResourceInfo"].resource_name == "none"
