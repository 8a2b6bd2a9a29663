"""Bad requests: a typed error with every violation at once, and nothing created or changed."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import UNKNOWN_ID, Refusal, answered, create, job, refused

KIB = 1 << 10


def jobs_of(stub: JobServiceStub) -> list[pb.Job]:
    return list(stub.ListJobs(pb.ListJobsRequest(page_size=1000)).jobs)


def invalid(stub: JobServiceStub, rpc: str, request: Message) -> Refusal:
    """A call that is refused as bad input and changes nothing."""
    before = jobs_of(stub)
    found = refused(getattr(stub, rpc), request)
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert found.violations
    assert jobs_of(stub) == before
    return found


# --- creates --------------------------------------------------------------------------------------

BAD_COMMANDS: dict[str, tuple[pb.Command, list[str]]] = {
    "no command": (pb.Command(), ["job.command.argv"]),
    "no program": (pb.Command(argv=["", "x"]), ["job.command.argv[0]"]),
    "a NUL in an argument": (
        pb.Command(argv=["echo", "a\0b", "c", "\0"]),
        ["job.command.argv[1]", "job.command.argv[3]"],
    ),
    "too many arguments": (pb.Command(argv=["x"] * 4097), ["job.command.argv"]),
    "1 MiB of arguments": (pb.Command(argv=["x" * KIB] * KIB), ["job.command.argv"]),
    "a relative work_dir": (pb.Command(argv=["ls"], work_dir="a/b"), ["job.command.work_dir"]),
    "a NUL in work_dir": (pb.Command(argv=["ls"], work_dir="/a\0"), ["job.command.work_dir"]),
    "a long work_dir": (pb.Command(argv=["ls"], work_dir="/" * 4096), ["job.command.work_dir"]),
    "1 MB of environment": (
        pb.Command(argv=["env"], env={f"V{n}": "x" * 10_000 for n in range(100)}),
        ["job.command.env"],
    ),
    "too many variables": (
        pb.Command(argv=["env"], env={f"V{n}": "" for n in range(1025)}),
        ["job.command.env"],
    ),
    "bad names of variables": (
        pb.Command(argv=["env"], env={"A=B": "", "1A": "", "": "", "OK": "", "N\0": ""}),
        [f'job.command.env["{name}"]' for name in ("", "1A", "A=B", "N\\u0000")],
    ),
    "a NUL in a variable": (pb.Command(argv=["env"], env={"A": "\0"}), ['job.command.env["A"]']),
    "a variable of the service": (
        pb.Command(argv=["env"], env={"JOBSERVICE_PROGRESS": "/x"}),
        ['job.command.env["JOBSERVICE_PROGRESS"]'],
    ),
    "too much input": (pb.Command(argv=["cat"], stdin=bytes((1 << 20) + 1)), ["job.command.stdin"]),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_commands_are_refused(idle_stub: JobServiceStub, case: str) -> None:
    command, fields = BAD_COMMANDS[case]
    found = invalid(idle_stub, "CreateJob", create(command=command))
    assert sorted(found.fields) == fields


BAD_FIELDS: dict[str, dict[str, Any]] = {
    "priority": {"priority": -101},
    "timeout": {"timeout": Duration(seconds=-5)},
    "stop_grace": {"stop_grace": Duration(nanos=-1)},
    "output_limit_bytes": {"output_limit_bytes": -1},
    "retry_policy.max_attempts": {"retry_policy": pb.RetryPolicy(max_attempts=-1)},
    "retry_policy.multiplier": {"retry_policy": pb.RetryPolicy(multiplier=float("nan"))},
    "retry_policy.max_backoff": {
        "retry_policy": pb.RetryPolicy(max_backoff=Duration(seconds=2**62))
    },
    "name": {"name": "two\nlines"},
    "queue": {"queue": "Not-Me"},
    "cluster": {"cluster": "-"},
    'labels["Key"]': {"labels": {"Key": "v"}},
    "labels": {"labels": {f"k{n}": "v" for n in range(65)}},
}


@pytest.mark.parametrize("field", BAD_FIELDS)
def test_bad_fields_are_refused(idle_stub: JobServiceStub, field: str) -> None:
    found = invalid(idle_stub, "CreateJob", create(**BAD_FIELDS[field]))
    assert found.fields == [f"job.{field}"]


def test_a_timeout_of_zero_is_refused(idle_stub: JobServiceStub) -> None:
    found = invalid(idle_stub, "CreateJob", create(timeout=Duration()))
    assert found.violations == [("job.timeout", "DURATION_GT_LTE")]


def test_every_violation_is_told_at_once(idle_stub: JobServiceStub) -> None:
    request = create(
        command=pb.Command(argv=["a\0"], env={"1": ""}, work_dir="x"),
        name="\n", queue="Q", priority=1000, timeout=Duration(seconds=-1), request_id="a b",
    )  # fmt: skip
    found = invalid(idle_stub, "CreateJob", request)
    expected = [
        "job.command.argv[0]",
        'job.command.env["1"]',
        "job.command.work_dir",
        "job.name",
        "job.priority",
        "job.queue",
        "job.timeout",
        "request_id",
    ]
    assert sorted(found.fields) == expected
    assert all(field in found.message for field in expected)


def test_a_long_list_of_violations_fits_into_an_answer(idle_stub: JobServiceStub) -> None:
    requests = [pb.CreateJobRequest(job=job(priority=999)) for _ in range(1000)]
    batch = pb.BatchCreateJobsRequest(requests=requests)
    found = invalid(idle_stub, "BatchCreateJobs", batch)
    omitted = int(found.metadata["violations_omitted"])
    assert len(found.violations) + omitted == 1000
    assert found.fields[:2] == ["requests[0].job.priority", "requests[1].job.priority"]
    labels = {str(n) + "é" * 100: "" for n in range(64)}
    wide = invalid(idle_stub, "CreateJob", create(labels=labels, name="\n" * 200))
    assert len(wide.violations) + int(wide.metadata["violations_omitted"]) == 65


# --- ids, etags, masks, offsets -------------------------------------------------------------------

BY_ID: dict[str, Any] = {
    "GetJob": pb.GetJobRequest,
    "GetJobStatus": pb.GetJobStatusRequest,
    "CancelJob": pb.CancelJobRequest,
    "RetryJob": pb.RetryJobRequest,
    "HoldJob": pb.HoldJobRequest,
    "ReleaseJob": pb.ReleaseJobRequest,
    "DeleteJob": pb.DeleteJobRequest,
    "ReadLogs": pb.ReadLogsRequest,
}


@pytest.mark.parametrize("rpc", BY_ID)
def test_unknown_and_malformed_ids(idle_stub: JobServiceStub, rpc: str) -> None:
    found = refused(getattr(idle_stub, rpc), BY_ID[rpc](job_id=UNKNOWN_ID))
    assert (found.code, found.reason) == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert found.details["ResourceInfo"].resource_name == UNKNOWN_ID
    for job_id in ("", "x", UNKNOWN_ID.upper(), UNKNOWN_ID + "0", "j" + "z" * 26):
        assert invalid(idle_stub, rpc, BY_ID[rpc](job_id=job_id)).fields == ["job_id"]


@pytest.mark.parametrize("etag", ["e2", "E1", "e-1", "e" + "f" * 40, "é", "e1 ", "1", "e01", "e1_"])
def test_a_stale_or_foreign_etag_is_refused(idle_stub: JobServiceStub, etag: str) -> None:
    made = idle_stub.CreateJob(create()).job
    mask = FieldMask(paths=["name"])
    asked = pb.Job(job_id=made.job_id, name="other", etag=etag)
    for found in (
        refused(idle_stub.UpdateJob, pb.UpdateJobRequest(job=asked, update_mask=mask)),
        refused(idle_stub.DeleteJob, pb.DeleteJobRequest(job_id=made.job_id, etag=etag)),
    ):
        assert (found.code, found.reason) == ("ABORTED", "ETAG_MISMATCH")
        assert found.metadata["job_id"] == made.job_id
    assert jobs_of(idle_stub) == [made]
    asked.job_id = UNKNOWN_ID
    nobody = refused(idle_stub.UpdateJob, pb.UpdateJobRequest(job=asked, update_mask=mask))
    assert nobody.code == "NOT_FOUND"
    nobody = refused(idle_stub.DeleteJob, pb.DeleteJobRequest(job_id=UNKNOWN_ID, etag=etag))
    assert nobody.code == "NOT_FOUND"


MASKS = {
    "nope": "UNKNOWN_FIELD",
    "": "UNKNOWN_FIELD",
    "*": "UNKNOWN_FIELD",
    "labels.team": "UNKNOWN_FIELD",
    "command": "IMMUTABLE_FIELD",
    "cluster": "IMMUTABLE_FIELD",
    "state": "IMMUTABLE_FIELD",
    "etag": "IMMUTABLE_FIELD",
    "output_limit_bytes": "IMMUTABLE_FIELD",
}


def test_a_mask_names_fields_that_may_be_changed(idle_stub: JobServiceStub) -> None:
    made = idle_stub.CreateJob(create()).job
    for path, rule in MASKS.items():
        request = pb.UpdateJobRequest(job=made, update_mask=FieldMask(paths=["name", path]))
        assert invalid(idle_stub, "UpdateJob", request).violations == [("update_mask", rule)]
    together = pb.UpdateJobRequest(job=made, update_mask=FieldMask(paths=list(MASKS)))
    found = invalid(idle_stub, "UpdateJob", together)
    assert [rule for _, rule in found.violations] == list(MASKS.values())
    for mask in (None, FieldMask()):
        request = pb.UpdateJobRequest(job=made, update_mask=mask)
        assert invalid(idle_stub, "UpdateJob", request).fields == ["update_mask"]


def test_a_changed_field_is_checked_like_a_new_one(idle_stub: JobServiceStub) -> None:
    made = idle_stub.CreateJob(create()).job
    asked = pb.Job(job_id=made.job_id, priority=101, name="\n", timeout=Duration(seconds=-1))
    asked.labels["team"] = "x" * 256
    request = pb.UpdateJobRequest(job=asked, update_mask=FieldMask(paths=["priority", "labels"]))
    found = invalid(idle_stub, "UpdateJob", request)
    assert sorted(found.fields) == ['job.labels["team"]', "job.priority"]


OFFSETS = [-1, 5, 1 << 40, 2**63 - 65536, 2**63 - 1]


@pytest.mark.parametrize("offset", OFFSETS)
def test_an_offset_behind_the_output_finds_nothing(stub: JobServiceStub, offset: int) -> None:
    job_id = stub.CreateJob(create("sh", "-c", "printf abc; printf abc >&2")).job.job_id
    answered(stub.ReadLogs, pb.ReadLogsRequest(job_id=job_id, follow=True))
    request = pb.ReadLogsRequest(job_id=job_id, stdout_offset=offset, stderr_offset=offset)
    if offset < 0:
        assert invalid(stub, "ReadLogs", request).fields == ["stdout_offset", "stderr_offset"]
    else:
        assert answered(stub.ReadLogs, request) == []


# --- pages and streams ----------------------------------------------------------------------------


def test_a_page_token_belongs_to_its_query(idle_stub: JobServiceStub) -> None:
    for _ in range(3):
        idle_stub.CreateJob(create(name="n"))
    page = idle_stub.ListJobs(pb.ListJobsRequest(page_size=1, name="n*"))
    token = page.next_page_token
    second = pb.ListJobsRequest(page_size=2, name="n*", page_token=token, view=2)  # type: ignore[arg-type]
    assert len(idle_stub.ListJobs(second).jobs) == 2, "size and view may change"
    forged = token[:20] + token[20:].swapcase()
    calls: list[tuple[Any, Message]] = [
        (idle_stub.ListJobs, pb.ListJobsRequest(name="n", page_token=token)),
        (idle_stub.ListJobs, pb.ListJobsRequest(name="n*", queue="default", page_token=token)),
        (idle_stub.ListJobs, pb.ListJobsRequest(name="n*", filter="name = n*", page_token=token)),
        (idle_stub.ListActiveJobs, pb.ListActiveJobsRequest(name="n*", page_token=token)),
        (idle_stub.GetJobHistory, pb.GetJobHistoryRequest(name="n*", page_token=token)),
        *[
            (idle_stub.ListJobs, pb.ListJobsRequest(name="n*", page_token=bad))
            for bad in (forged, token[:-3], token + "AAAA", "x", "é", "=", "A" * 9999, "' OR 1")
        ],
    ]
    for call, request in calls:
        found = refused(call, request)
        assert (found.code, found.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"), request


LISTS: dict[str, tuple[str, Message, list[str]]] = {
    "page size": ("ListJobs", pb.ListJobsRequest(page_size=-1), ["page_size"]),
    "states": ("ListJobs", pb.ListJobsRequest(states=[0, 4, 99]), ["states[0]", "states[2]"]),  # type: ignore[list-item]
    "view": ("ListActiveJobs", pb.ListActiveJobsRequest(view=9), ["view"]),  # type: ignore[arg-type]
    "final states": ("GetJobHistory", pb.GetJobHistoryRequest(states=[7, 5]), ["states[1]"]),  # type: ignore[list-item]
    "instants": (
        "GetJobHistory",
        pb.GetJobHistoryRequest(
            ended_after=Timestamp(seconds=2**62), ended_before=Timestamp(nanos=-1)
        ),
        ["ended_after", "ended_before"],
    ),
    "labels": (
        "ListJobs",
        pb.ListJobsRequest(labels={f"l{n}": "" for n in range(9)}),
        ["labels"],
    ),
    "ids of a watch": (
        "WatchJobs",
        pb.WatchJobsRequest(job_ids=[UNKNOWN_ID, "x"]),
        ["job_ids[1]"],
    ),
    "logs": (
        "ReadLogs",
        pb.ReadLogsRequest(job_id=UNKNOWN_ID, attempt=-1, stream=7),  # type: ignore[arg-type]
        ["attempt", "stream"],
    ),
}


FILTERS: dict[str, list[str]] = {
    "stat = X": ["at character 1: `stat` is no field; the fields are job_id, name"],
    "state = failed AND exit_code = x": [
        "at character 9: `failed`, where one of BLOCKED, SCHEDULED",
        "at character 32: `x`, where a whole number",
    ],
    "state = FAILED OR": ["at character 18: the end, where a field, NOT or `(` may stand"],
    "queue = a AND queue = b OR queue = c": ["at character 25: `OR` beside `AND`: put parentheses"],
    "labels.team": ["at character 12: the end behind `labels.team`, where one of = != < <= > >= :"],
    'name = "a': ['at character 8: a text without its closing "'],
    "name = a'; DROP TABLE jobs": ["at character 9: `'`, where AND, OR or the end may stand"],
    "end_time > 2026-11-25": ["at character 12: `2026-11-25`, where an instant from 1970 on with"],
    "(" * 1_000: ["at character 18: parentheses and NOT nested deeper than 16"],
    "x" * 2_001: ["must be at most 2,000 characters; got "],
}


@pytest.mark.parametrize("rpc", ["ListJobs", "ListActiveJobs", "GetJobHistory"])
@pytest.mark.parametrize("text", FILTERS)
def test_bad_filters_are_refused(idle_stub: JobServiceStub, text: str, rpc: str) -> None:
    request = pb.message_class(pb.SERVICE.methods_by_name[rpc].input_type)(filter=text)
    found = invalid(idle_stub, rpc, request)
    assert found.fields == ["filter"] * len(FILTERS[text])
    said = [each.description for each in found.details["BadRequest"].field_violations]
    assert all(map(str.startswith, said, FILTERS[text])), said


@pytest.mark.parametrize("case", LISTS)
def test_bad_reads_are_refused(idle_stub: JobServiceStub, case: str) -> None:
    rpc, request, fields = LISTS[case]
    assert sorted(invalid(idle_stub, rpc, request).fields) == fields


def test_a_refusal_carries_the_id_of_the_request(idle_stub: JobServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        idle_stub.GetJob(pb.GetJobRequest(), metadata=(("x-request-id", "mine-77"),))
    trailers: dict[str, Any] = dict(caught.value.trailing_metadata())  # type: ignore[arg-type]
    assert trailers["x-request-id"] == "mine-77"
    found = refused(idle_stub.GetJob, pb.GetJobRequest())
    assert found.details["RequestInfo"].request_id
