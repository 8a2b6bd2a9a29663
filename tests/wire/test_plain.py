"""Nothing that is called plain breaks a rule, however near to the limits; and plain jobs exist."""

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from jobservice.wire import messages as pb
from jobservice.wire.plain import is_plain_batch, is_plain_create
from jobservice.wire.validate import violations
from tests.examples import examples

PLAIN = pb.Command(argv=["true"])
TEXTS = [
    "",
    "a",
    "-",
    "A",
    "a-",
    "a b",
    "é",
    "\0",
    "x\0",
    "\n",
    "\x7f",
    "😀",
    "a" * 62,
    "a" * 63,
    "a" * 64,
    "a" * 128,
    "a" * 129,
    "a" * 255,
    "a" * 256,
    "a" * 257,
    "b" * 4095,
    "c" * 4096,
    "d" * 9000,
    "JOBSERVICE_X",
    "JOBSERVICE",
    "_x",
    "9x",
    "a.b/c-d",
    "/",
    "/tmp",
    "/" + "w" * 4094,
    "rel",
]
ODD = st.sampled_from(TEXTS)
NUMBERS = st.sampled_from([-(2**31), -101, -100, -1, 0, 1, 100, 101, 2**31 - 1])
SIZES = st.sampled_from([-1, 0, 1, 1 << 40, (1 << 40) + 1])
LENGTHS = st.builds(
    Duration,
    seconds=st.sampled_from([-1, 0, 1, 31_535_999, 31_536_000, 31_536_001]),
    nanos=st.sampled_from([-1, 0, 1, 999_999_999]),
)
INSTANTS = st.builds(
    Timestamp,
    seconds=st.sampled_from([-1, 0, 1, 253_402_300_799, 253_402_300_800]),
    nanos=st.sampled_from([-1, 0, 999_999_999]),
)
MAPS = st.dictionaries(ODD, ODD, max_size=4)
COMMANDS = st.builds(
    pb.Command,
    argv=st.one_of(
        st.lists(ODD, max_size=4), st.just(["a"] * 64), st.just(["a"] * 4096), st.just(["a"] * 4097)
    ),
    env=MAPS,
    stdin=st.sampled_from([b"", b"\0", bytes(1 << 20), bytes((1 << 20) + 1)]),
    work_dir=ODD,
)
KEYS = st.lists(
    st.builds(
        pb.ConcurrencyKey,
        key=ODD,
        limit=st.sampled_from([-1, 0, 1, 2, 1_000_000, 1_000_001]),
        weight=st.sampled_from([-1, 0, 1, 2, 3, 1_000_000, 1_000_001]),
        on_conflict=st.sampled_from([-1, 0, 1, 6, 7]),
    ),
    max_size=4,
)
UNIQUE = st.builds(
    pb.UniqueKey,
    key=ODD,
    scope=st.integers(-1, 3),
    window=st.one_of(st.none(), LENGTHS),
    states=st.lists(st.integers(-1, 11), max_size=3),
    on_duplicate=st.integers(-1, 4),
)
ARRAYS = st.builds(
    pb.Array,
    size=st.sampled_from([-1, 0, 1, 2, 1_000_000, 1_000_001]),
    items=st.lists(ODD, max_size=3),
    max_parallel=st.sampled_from([-1, 0, 1, 1_000_001]),
    max_failures=st.sampled_from([None, -1, 0, 1_000_001]),
)
SHARES = st.sampled_from([-1.0, 0.0, 0.000_9, 0.001, 1.0, 1000.0, 1000.1, float("nan")])
JOBS = st.builds(
    pb.Job,
    name=ODD,
    labels=MAPS,
    queue=ODD,
    cluster=ODD,
    priority=NUMBERS,
    output_limit_bytes=SIZES,
    command=st.one_of(st.none(), st.just(PLAIN), COMMANDS),
    timeout=st.one_of(st.none(), LENGTHS),
    start_after=st.one_of(st.none(), INSTANTS),
    start_delay=st.one_of(st.none(), LENGTHS),
    concurrency_keys=KEYS,
    unique_key=st.one_of(st.none(), UNIQUE),
    fairness_key=ODD,
    fairness_weight=SHARES,
    queue_timeout=st.one_of(st.none(), LENGTHS),
    total_timeout=st.one_of(st.none(), LENGTHS),
    deadline=st.one_of(st.none(), INSTANTS),
    idle_timeout=st.one_of(st.none(), LENGTHS),
    array=st.one_of(st.none(), ARRAYS),
)
ONE_FIELD = st.one_of(
    st.builds(lambda text: pb.Job(command=PLAIN, name=text), ODD),
    st.builds(lambda text: pb.Job(command=PLAIN, queue=text), ODD),
    st.builds(lambda text: pb.Job(command=PLAIN, cluster=text), ODD),
    st.builds(lambda pairs: pb.Job(command=PLAIN, labels=pairs), MAPS),
    st.builds(lambda length: pb.Job(command=PLAIN, timeout=length), LENGTHS),
    st.builds(lambda at: pb.Job(command=PLAIN, start_after=at), INSTANTS),
    st.builds(lambda length: pb.Job(command=PLAIN, start_delay=length), LENGTHS),
    st.builds(lambda keys: pb.Job(command=PLAIN, concurrency_keys=keys), KEYS),
    st.builds(lambda key: pb.Job(command=PLAIN, unique_key=key), UNIQUE),
    st.builds(lambda text: pb.Job(command=PLAIN, fairness_key=text), ODD),
    st.builds(lambda share: pb.Job(command=PLAIN, fairness_weight=share), SHARES),
    st.builds(lambda length: pb.Job(command=PLAIN, queue_timeout=length), LENGTHS),
    st.builds(lambda length: pb.Job(command=PLAIN, total_timeout=length), LENGTHS),
    st.builds(lambda at: pb.Job(command=PLAIN, deadline=at), INSTANTS),
    st.builds(lambda length: pb.Job(command=PLAIN, idle_timeout=length), LENGTHS),
    st.builds(lambda array: pb.Job(command=PLAIN, array=array), ARRAYS),
    st.builds(lambda size: pb.Job(command=PLAIN, output_limit_bytes=size), SIZES),
    st.builds(lambda number: pb.Job(command=PLAIN, priority=number), NUMBERS),
    st.builds(lambda command: pb.Job(command=command), COMMANDS),
    st.builds(lambda argv: pb.Job(command=pb.Command(argv=argv)), st.lists(ODD, max_size=3)),
    st.builds(lambda env: pb.Job(command=pb.Command(argv=["a"], env=env)), MAPS),
    st.builds(lambda path: pb.Job(command=pb.Command(argv=["a"], work_dir=path)), ODD),
)


PLACES: dict[str, Callable[[str], pb.Job]] = {
    "name": lambda text: pb.Job(command=PLAIN, name=text),
    "queue": lambda text: pb.Job(command=PLAIN, queue=text),
    "cluster": lambda text: pb.Job(command=PLAIN, cluster=text),
    "key": lambda text: pb.Job(command=PLAIN, concurrency_keys=[pb.ConcurrencyKey(key=text)]),
    "fairness key": lambda text: pb.Job(command=PLAIN, fairness_key=text),
    "label": lambda text: pb.Job(command=PLAIN, labels={text: "value"}),
    "label value": lambda text: pb.Job(command=PLAIN, labels={"key": text}),
    "variable": lambda text: pb.Job(command=pb.Command(argv=["a"], env={text: "value"})),
    "value": lambda text: pb.Job(command=pb.Command(argv=["a"], env={"KEY": text})),
    "program": lambda text: pb.Job(command=pb.Command(argv=[text])),
    "argument": lambda text: pb.Job(command=pb.Command(argv=["a", text])),
    "work_dir": lambda text: pb.Job(command=pb.Command(argv=["a"], work_dir=text)),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_text_is_plain_where_it_breaks_a_rule(place: str) -> None:
    for text in TEXTS:
        request = pb.CreateJobRequest(job=PLACES[place](text))
        assert not is_plain_create(request) or violations(request) == [], text


def test_no_request_id_is_plain_that_breaks_a_rule() -> None:
    for text in TEXTS:
        request = pb.CreateJobRequest(job=pb.Job(command=PLAIN), request_id=text)
        assert not is_plain_create(request) or violations(request) == [], text


@settings(max_examples=examples(500), deadline=None)
@given(st.one_of(ONE_FIELD, JOBS), ODD)
def test_a_plain_create_breaks_no_rule(job: pb.Job, request_id: str) -> None:
    for given_id in ("", request_id):
        request = pb.CreateJobRequest(job=job, request_id=given_id)
        if is_plain_create(request):
            assert violations(request) == []


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(ONE_FIELD, max_size=3), st.booleans(), ODD, st.integers(0, 9))
def test_a_plain_batch_breaks_no_rule(
    jobs: list[pb.Job], validate_only: bool, request_id: str, view: int
) -> None:
    each = [pb.CreateJobRequest(job=job, validate_only=validate_only) for job in jobs]
    request = pb.BatchCreateJobsRequest(requests=each, request_id=request_id)
    request.view = view  # type: ignore[assignment]
    if is_plain_batch(request):
        assert violations(request) == []


@pytest.mark.parametrize(
    "job",
    [
        pb.Job(command=PLAIN),
        pb.Job(command=pb.Command(argv=["sh", "-c", "a\nb"], env={"A": "b"}, work_dir="/tmp")),
        pb.Job(
            command=PLAIN, name="x y", labels={"a": "b"}, queue="q", timeout=Duration(seconds=5)
        ),
        pb.Job(command=PLAIN, idle_timeout=Duration(seconds=5)),
        pb.Job(
            command=PLAIN,
            concurrency_keys=[pb.ConcurrencyKey(key=f"k{n}", limit=n) for n in range(16)],
            fairness_key="who",
            fairness_weight=2,
        ),
    ],
)
def test_everyday_jobs_are_plain(job: pb.Job) -> None:
    assert is_plain_create(pb.CreateJobRequest(job=job))
    assert is_plain_batch(pb.BatchCreateJobsRequest(requests=[pb.CreateJobRequest(job=job)]))
