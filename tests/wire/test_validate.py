"""Every bad input is refused with all of its violations at once, and nothing good is refused."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from jobservice.errors import InvalidRequest
from jobservice.wire import messages, validate
from jobservice.wire.remedies import REMEDIES

pb: Any = messages
"""Messages are written with plain numbers and dictionaries here."""
OPTIONS, RULES = "google.protobuf.FieldOptions", "buf.validate.field"
ONEOF_OPTIONS, ONEOF_RULES = "google.protobuf.OneofOptions", "buf.validate.oneof"
ID = "j" + "0" * 26
NUL = "must not contain a NUL character"
PIECE = "must be at most 131,071 bytes, the most that Linux passes to a program in one piece"
INSTEAD = "Pass more by a file or as standard input"
EDITABLE = (
    "deadline, idle_timeout, labels, name, priority, queue, queue_timeout, retry_policy, start_after, "
    "stop_grace, timeout, total_timeout"
)


def job(**fields: Any) -> Message:
    """A job that is valid but for the fields given."""
    fields.setdefault("command", pb.Command(argv=["true"]))
    made: Message = pb.Job(**fields)
    return made


def command(**fields: Any) -> Message:
    """A job whose command is valid but for the fields given."""
    fields.setdefault("argv", ["true"])
    made: Message = pb.Job(command=pb.Command(**fields))
    return made


def create(given_job: Message, **fields: Any) -> Message:
    made: Message = pb.CreateJobRequest(job=given_job, **fields)
    return made


def found(request: Message) -> list[tuple[str, str]]:
    return [(each.field, each.message) for each in validate.violations(request)]


GOOD: list[Message] = [
    create(job()),
    create(
        job(
            name="Ünïcode, with spaces",
            labels={"team/a.b_c-d": "", "x": "v" * 255},
            queue="q-1",
            priority=-100,
            cluster="local",
            timeout={"seconds": 31_536_000},
            stop_grace={"seconds": 0},
            output_limit_bytes=1 << 40,
            start_after={"seconds": 253_402_300_798},
            deadline={"seconds": 253_402_300_799},
            queue_timeout={"seconds": 315_360_000},
            total_timeout={"nanos": 1},
            idle_timeout={"seconds": 31_536_000},
            concurrency_keys=[
                {"key": "é" * 128, "limit": 1_000_000, "weight": 1_000_000, "on_conflict": 6},
                *({"key": f"k {n}"} for n in range(15)),
            ],
            unique_key={
                "key": "é" * 128,
                "scope": 2,
                "window": {"seconds": 315_360_000},
                "states": range(1, 11),
                "on_duplicate": 3,
            },
            fairness_key="é" * 128,
            fairness_weight=0.001,
            retry_policy=pb.RetryPolicy(max_attempts=1000, multiplier=1.5, max_lost=100),
            command=pb.Command(
                argv=["/bin/sh", "-c", "echo hello\nthere", ""],
                env={"A_1": "", "_": "x=y"},
                stdin=b"\0" * (1 << 20),
                work_dir="/" + "a" * 4094,
            ),
        ),
        request_id="!~" * 64,
    ),
    create(job(queue="q", priority=100, start_delay={"seconds": 315_360_000})),
    create(command(argv=["x" * 1023] * 1024)),
    pb.BatchCreateJobsRequest(requests=[create(job())] * 1000),
    pb.GetJobRequest(job_id=ID),
    pb.ListJobsRequest(states=[1, 10], page_size=5000, name="a" * 256 + "*", view=3),
    pb.ListActiveJobsRequest(),
    pb.GetJobHistoryRequest(states=[7, 8, 9, 10], ended_after={"seconds": 0, "nanos": 5}),
    pb.WatchJobsRequest(),
    pb.WatchJobsRequest(job_ids=[ID] * 1000),
    pb.ReadLogsRequest(job_id=ID, attempt=3, stream=2, stdout_offset=1 << 40),
    pb.DeleteJobRequest(job_id=ID, etag="e1"),
    pb.UpdateJobRequest(
        job=pb.Job(job_id=ID, name="n", priority=5000), update_mask={"paths": ["name"]}
    ),
]
"""Among them, in the last, a field that is wrong and not in the mask: it is not looked at."""

BAD: list[tuple[str, Message, list[tuple[str, str]]]] = [
    ("no job", pb.CreateJobRequest(), [("job", "must be given")]),
    ("no command", create(pb.Job()), [("job.command", "must be given")]),
    (
        "empty argv",
        create(pb.Job(command=pb.Command())),
        [
            (
                "job.command.argv",
                "must hold the program to run, and at most 4,096 arguments with it",
            )
        ],
    ),
    (
        "too many arguments",
        create(command(argv=["a"] * 4097)),
        [
            (
                "job.command.argv",
                "must hold the program to run, and at most 4,096 arguments with it; got 4,097",
            )
        ],
    ),
    (
        "empty program",
        create(command(argv=["", "x"])),
        [("job.command.argv[0]", "must name the program to run")],
    ),
    (
        "NUL in arguments",
        create(command(argv=["a", "b\0c", "\0"])),
        [
            ("job.command.argv[1]", f'{NUL}; got "b\\u0000c"'),
            ("job.command.argv[2]", f'{NUL}; got "\\u0000"'),
        ],
    ),
    (
        "arguments too large",
        create(command(argv=["x" * (1 << 16)] * 16)),
        [("job.command.argv", "must be at most 1,048,576 bytes together; got 1,048,592")],
    ),
    (
        "one argument and one variable too large to be passed on",
        create(
            command(
                argv=["x", "é" * (1 << 16)], env={"A": "y" * ((1 << 17) - 3), "B": "z" * (1 << 17)}
            )
        ),
        [
            ("job.command.argv[1]", f"{PIECE}; got 131,072. {INSTEAD}"),
            ("job.command.env", "must be at most 262,144 bytes together; got 262,147"),
            ('job.command.env["B"]', f"{PIECE}; got 131,074. {INSTEAD}"),
        ],
    ),
    (
        "relative work_dir",
        create(command(work_dir="src/x")),
        [
            (
                "job.command.work_dir",
                f'{REMEDIES["Command.work_dir"]}; got "src/x"',
            )
        ],
    ),
    (
        "a megabyte of environment",
        create(command(env={"BIG": "x" * 1_000_000})),
        [
            ("job.command.env", "must be at most 262,144 bytes together; got 1,000,005"),
            ('job.command.env["BIG"]', f"{PIECE}; got 1,000,004. {INSTEAD}"),
        ],
    ),
    (
        "names of variables",
        create(command(env={"1A": "x", "JOBSERVICE_X": "y", "B": "\0"})),
        [
            (
                'job.command.env["1A"]',
                'a name must be letters, digits and `_`, not beginning with a digit; got "1A"',
            ),
            ('job.command.env["B"]', f'{NUL}; got "\\u0000"'),
            (
                'job.command.env["JOBSERVICE_X"]',
                "a name must not begin with JOBSERVICE_: the service sets those",
            ),
        ],
    ),
    (
        "too much input",
        create(command(stdin=b"x" * ((1 << 20) + 1))),
        [("job.command.stdin", "must be at most 1 MiB; got 1,048,577 bytes")],
    ),
    (
        "lengths of time",
        create(
            job(
                timeout={"seconds": -1},
                stop_grace={"seconds": 3601},
                retry_policy={
                    "initial_backoff": {"seconds": -1},
                    "max_backoff": {"seconds": 90000},
                },
            )
        ),
        [
            ("job.timeout", "must be above 0 s and at most 365 days; got -1 s"),
            ("job.retry_policy.initial_backoff", "must be from 0 s to 24 hours; got -1 s"),
            ("job.retry_policy.max_backoff", "must be from 0 s to 24 hours; got 90,000 s"),
            ("job.stop_grace", "must be from 0 s to 1 hour; got 3,601 s"),
        ],
    ),
    (
        "silences",
        create(job(timeout={"seconds": -1}, idle_timeout={"seconds": 40_000_000})),
        [
            ("job.timeout", "must be above 0 s and at most 365 days; got -1 s"),
            ("job.idle_timeout", "must be above 0 s and at most 365 days; got 40,000,000 s"),
        ],
    ),
    (
        "a silence of nothing",
        create(job(idle_timeout={})),
        [("job.idle_timeout", "must be above 0 s and at most 365 days; got 0 s")],
    ),
    (
        "a timeout of nothing",
        create(job(timeout={})),
        [("job.timeout", "must be above 0 s and at most 365 days; got 0 s")],
    ),
    (
        "numbers",
        create(
            job(
                priority=101,
                output_limit_bytes=-1,
                retry_policy={"max_attempts": 1001, "multiplier": 0.5, "max_lost": -1},
            )
        ),
        [
            ("job.priority", "must be from -100 to 100; got 101"),
            (
                "job.retry_policy.max_attempts",
                "must be from 0 (for the default, 1) to 1,000; got 1001",
            ),
            (
                "job.retry_policy.multiplier",
                "must be 0 (for the default, 2) or from 1 to 100; got 0.5",
            ),
            ("job.retry_policy.max_lost", "must be from 0 (for the default, 5) to 100; got -1"),
            ("job.output_limit_bytes", "must be from 0 (for the default, 1 GiB) to 1 TiB; got -1"),
        ],
    ),
    (
        "names",
        create(job(name="a\nb", queue="Q", cluster="-x"), request_id="a b"),
        [
            (
                "job.name",
                'must be at most 256 characters without control characters; got "a\\nb"',
            ),
            (
                "job.queue",
                f'{REMEDIES["Job.queue"]}; got "Q"',
            ),
            (
                "job.cluster",
                f'{REMEDIES["Job.cluster"]}; got "-x"',
            ),
            (
                "request_id",
                'must be at most 128 printable ASCII characters without spaces; got "a b"',
            ),
        ],
    ),
    (
        "labels",
        create(job(labels={"Team": "x" * 256})),
        [
            (
                'job.labels["Team"]',
                'a key must be 1 to 63 of `a-z 0-9 . _ / -`, beginning with a letter; got "Team"',
            ),
            (
                'job.labels["Team"]',
                f'must be at most 255 characters without a NUL character; got "{"x" * 60}…"',
            ),
        ],
    ),
    (
        "NUL in a label",
        create(job(labels={"a": "b\0"})),
        [
            (
                'job.labels["a"]',
                'must be at most 255 characters without a NUL character; got "b\\u0000"',
            ),
        ],
    ),
    (
        "concurrency keys",
        create(
            job(
                concurrency_keys=[
                    {"key": "db"},
                    {"key": "\0", "limit": -1, "weight": 1_000_001, "on_conflict": 7},
                    {"key": "db", "limit": 2, "weight": 3},
                    {},
                ],
                fairness_key="a\nb",
                fairness_weight=1001,
            )
        ),
        [
            ("job.concurrency_keys[1].key", f'{REMEDIES["ConcurrencyKey.key"]}; got "\\u0000"'),
            ("job.concurrency_keys[1].limit", f"{REMEDIES['ConcurrencyKey.limit']}; got -1"),
            (
                "job.concurrency_keys[1].weight",
                "must be from 0 (for the default, 1) to 1,000,000; got 1000001",
            ),
            (
                "job.concurrency_keys[1].on_conflict",
                "must be one of the policies, or unset to wait; got 7",
            ),
            ("job.concurrency_keys[2].key", 'must be named once; [0] and [2] are both "db"'),
            ("job.concurrency_keys[2].weight", "must be at most the limit beside it, 2; got 3"),
            ("job.concurrency_keys[3].key", f'{REMEDIES["ConcurrencyKey.key"]}; got ""'),
            ("job.fairness_key", f'{REMEDIES["Job.fairness_key"]}; got "a\\nb"'),
            ("job.fairness_weight", f"{REMEDIES['Job.fairness_weight']}; got 1001.0"),
        ],
    ),
    (
        "unique key",
        create(
            job(
                unique_key={
                    "key": "a\nb",
                    "scope": 3,
                    "window": {"seconds": 315_360_001},
                    "states": [1, 0, 11],
                    "on_duplicate": 4,
                }
            )
        ),
        [
            ("job.unique_key.key", f'{REMEDIES["UniqueKey.key"]}; got "a\\nb"'),
            ("job.unique_key.scope", f"{REMEDIES['UniqueKey.scope']}; got 3"),
            ("job.unique_key.window", f"{REMEDIES['UniqueKey.window']}; got 315,360,001 s"),
            ("job.unique_key.states[1]", "must be one of the states; got 0"),
            ("job.unique_key.states[2]", "must be one of the states; got 11"),
            ("job.unique_key.on_duplicate", f"{REMEDIES['UniqueKey.on_duplicate']}; got 4"),
        ],
    ),
    (
        "unique key without a name, with a window of nothing and a state twice",
        create(job(unique_key={"window": {}, "states": [4, 4]})),
        [
            ("job.unique_key.key", f'{REMEDIES["UniqueKey.key"]}; got ""'),
            ("job.unique_key.window", f"{REMEDIES['UniqueKey.window']}; got 0 s"),
            ("job.unique_key.states", f"{REMEDIES['UniqueKey.states']}; got 2"),
        ],
    ),
    (
        "too many concurrency keys",
        create(job(concurrency_keys=[{"key": f"k{n}"} for n in range(17)])),
        [("job.concurrency_keys", "must be at most 16 keys; got 17")],
    ),
    (
        "too many labels",
        create(job(labels={f"a{i}": "" for i in range(65)})),
        [("job.labels", "must be at most 64 labels; got 65")],
    ),
    (
        "labels too large",
        create(job(labels={f"a{i:02}": "😀" * 255 for i in range(20)})),
        [("job.labels", "must be at most 16,384 bytes together; got 20,460")],
    ),
    ("an empty batch", pb.BatchCreateJobsRequest(), [("requests", "must hold 1 to 1,000 creates")]),
    (
        "a batch that is too large",
        pb.BatchCreateJobsRequest(requests=[create(job())] * 1001),
        [("requests", "must hold 1 to 1,000 creates; got 1,001")],
    ),
    (
        "a batch with several faults",
        pb.BatchCreateJobsRequest(
            requests=[
                create(job()),
                create(command(argv=["\0"]), request_id="x", validate_only=True),
                create(command(argv=[""])),
            ]
        ),
        [
            ("requests[1].job.command.argv[0]", f'{NUL}; got "\\u0000"'),
            (
                "requests[1].request_id",
                "must be left out of a batch; give it to the batch as a whole",
            ),
            ("requests[1].validate_only", "must be left out of a batch; check the jobs one by one"),
            ("requests[2].job.command.argv[0]", "must name the program to run"),
        ],
    ),
    (
        "no id",
        pb.GetJobRequest(),
        [("job_id", 'must be a job id: `j` and 26 of `0-9 a-v`; got ""')],
    ),
    (
        "ids",
        pb.WatchJobsRequest(job_ids=[ID, "x"]),
        [("job_ids[1]", 'must be a job id: `j` and 26 of `0-9 a-v`; got "x"')],
    ),
    (
        "a list",
        pb.ListJobsRequest(page_size=-1, states=[0], view=9),
        [
            ("states[0]", "must be a state; got 0"),
            (
                "page_size",
                "must be 0 (for the default, 50) or above; more than 1,000 means 1,000; got -1",
            ),
            ("view", "must be JOB_VIEW_BASIC, JOB_VIEW_FULL or JOB_VIEW_ID; got 9"),
        ],
    ),
    (
        "a history",
        pb.GetJobHistoryRequest(states=[5], ended_before={"seconds": -5}),
        [
            ("states[0]", "must be a final state: SUCCEEDED, FAILED, CANCELLED or SKIPPED; got 5"),
            ("ended_before", "must be an instant from 1970 to 9999; got -5 s"),
        ],
    ),
    (
        "logs",
        pb.ReadLogsRequest(job_id=ID, attempt=-1, stream=7, stderr_offset=-1),
        [
            ("attempt", "must be the number of an attempt, or 0 for the newest; got -1"),
            ("stream", "must be LOG_STREAM_STDOUT or LOG_STREAM_STDERR, or unset for both; got 7"),
            ("stderr_offset", "must be a position in the output, from 0; got -1"),
        ],
    ),
    (
        "an update of nothing",
        pb.UpdateJobRequest(),
        [("update_mask", "must be given"), ("job", "must be given")],
    ),
    (
        "an update without fields",
        pb.UpdateJobRequest(job=pb.Job(job_id=ID), update_mask={}),
        [("update_mask", f"must name at least one of {EDITABLE}")],
    ),
    (
        "an update of unknown and immutable fields",
        pb.UpdateJobRequest(
            job=pb.Job(job_id="nope"),
            update_mask={"paths": ["colour", "state", "command.argv", "retry_policy.max_attempts"]},
        ),
        [
            ("job.job_id", 'must be a job id: `j` and 26 of `0-9 a-v`; got "nope"'),
            ("update_mask", f'"colour" is no field of a job; name any of {EDITABLE}'),
            ("update_mask", f'"state" cannot be changed; name any of {EDITABLE}'),
            ("update_mask", f'"command.argv" is no field of a job; name any of {EDITABLE}'),
            (
                "update_mask",
                f'"retry_policy.max_attempts" is no field of a job; name any of {EDITABLE}',
            ),
        ],
    ),
    (
        "an update to bad values",
        pb.UpdateJobRequest(
            job=pb.Job(job_id=ID, priority=101, timeout={"seconds": -1}, queue="Q"),
            update_mask={"paths": ["priority", "timeout"]},
        ),
        [
            ("job.priority", "must be from -100 to 100; got 101"),
            ("job.timeout", "must be above 0 s and at most 365 days; got -1 s"),
        ],
    ),
]


@pytest.mark.parametrize("request_", GOOD, ids=lambda each: each.DESCRIPTOR.name)
def test_what_is_good_passes(request_: Message) -> None:
    assert found(request_) == []
    validate.validate(request_)


@pytest.mark.parametrize(("request_", "expected"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_bad_is_refused_with_all_that_is_wrong(
    request_: Message, expected: list[tuple[str, str]]
) -> None:
    assert sorted(found(request_)) == sorted(expected)
    with pytest.raises(InvalidRequest) as caught:
        validate.validate(request_)
    assert len(caught.value.violations) == len(expected)


def test_rules_are_named_for_programs() -> None:
    request = create(command(argv=[""], env={"JOBSERVICE_A": ""}, work_dir="x"))
    rules = {each.rule for each in validate.violations(request)}
    assert rules == {"NO_PROGRAM", "RESERVED_NAME", "STRING_PREFIX"}
    assert all(re.fullmatch(r"[A-Z0-9]+(_[A-Z0-9]+)*", rule) for rule in rules)


@given(st.text(), st.text())
def test_a_sentence_stays_short_whatever_the_value(key: str, value: str) -> None:
    request = create(job(labels={key * 50: value * 50}, name=value * 50, queue=key * 50))
    assert all(len(each.message) < 600 for each in validate.violations(request))
    assert all(len(each.field) < 500 for each in validate.violations(request))


# --- the sentences are those of the rules -----------------------------------------------------


def every_message() -> Iterator[Descriptor]:
    """Every message of the API, as the private pool has it."""
    for name in (
        "job", "job_service", "schedule", "schedule_service", "queue", "queue_service", "limit",
        "limit_service", "operation_service", "worker", "worker_service",
    ):  # fmt: skip
        file = validate.POOL.FindFileByName(f"jobservice/v1/{name}.proto")
        yield from file.message_types_by_name.values()


def rules_of(field: FieldDescriptor) -> Any:
    """The rules of a field, read with the private pool, which knows them; None where it has none."""
    options_class = GetMessageClass(validate.POOL.FindMessageTypeByName(OPTIONS))
    options = options_class.FromString(field.GetOptions().SerializeToString())
    found = [value for each, value in options.ListFields() if each.full_name == RULES]
    return found[0] if found and not is_off(found[0]) else None


def is_off(rules: Any) -> bool:
    ignore = rules.DESCRIPTOR.fields_by_name["ignore"].enum_type
    return bool(rules.ignore == ignore.values_by_name["IGNORE_ALWAYS"].number)


def places(field: FieldDescriptor) -> Iterator[str]:
    """The places of a field that have rules."""
    rules = rules_of(field)
    if rules is None:
        return
    assert field.containing_type
    key = f"{field.containing_type.name}.{field.name}"
    if rules.repeated.HasField("items"):
        yield f"{key}[]"
    if rules.map.HasField("keys"):
        yield f"{key}{{key}}"
    if rules.map.HasField("values"):
        yield f"{key}{{value}}"
    kinds = {rule.name for rule, _ in rules.ListFields()} - {"ignore", "repeated", "map"}
    if kinds or sized(rules):
        yield key


def choices(message: Descriptor) -> Iterator[str]:
    """The places of a message where one of several fields must be given."""
    options_class = GetMessageClass(validate.POOL.FindMessageTypeByName(ONEOF_OPTIONS))
    for oneof in message.oneofs:
        options = options_class.FromString(oneof.GetOptions().SerializeToString())
        found = [each for each, _ in options.ListFields() if each.full_name == ONEOF_RULES]
        if found:
            yield f"{message.name}.{oneof.name}"


def sized(rules: Any) -> bool:
    """Whether the number of items or pairs has a rule."""
    names = {each.name for each, _ in rules.repeated.ListFields()}
    names |= {each.name for each, _ in rules.map.ListFields()}
    return bool(names & {"min_items", "max_items", "min_pairs", "max_pairs", "unique"})


def test_every_place_with_rules_has_its_sentence_and_no_other_has() -> None:
    ruled = {
        place for message in every_message() for field in message.fields for place in places(field)
    } | {
        f"{message.name}.{oneof.name}"
        for message in every_message()
        for oneof in message.oneofs
        if oneof.has_options
    }
    ruled |= {place for message in every_message() for place in choices(message)}
    ruled |= {
        f"{message.name}.{oneof.name}"
        for message in every_message()
        for oneof in message.oneofs
        if oneof.has_options
    }
    assert ruled == set(REMEDIES) - {"job_id"}
