"""What a repeated create is compared by."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jobservice.model.limit import NORMAL_WEIGHT
from jobservice.model.spec import JobSpec, RetryPolicy
from jobservice.model.worker import ANYWHERE

_DEFAULT_RETRY = RetryPolicy()
_LATER: Mapping[str, Any] = {
    "start_after": None,
    "start_delay": None,
    "job_type": "",
    "concurrency_keys": (),
    "unique_key": None,
    "fairness_key": "",
    "fairness_weight": NORMAL_WEIGHT,
    "queue_timeout": None,
    "total_timeout": None,
    "deadline": None,
    "idle_timeout": None,
    "placement": ANYWHERE,
    "array": None,
}
"""Fields of `JobSpec` that the first release did not have, and what they are where not given."""


def request_digest(specs: Sequence[JobSpec]) -> bytes:
    """What a repeated create is compared by: equal for equal jobs, whatever was left unset.

    Fields that came later are only in it where they are given, so that a request which is repeated
    across an upgrade is still the same.
    """
    digest = hashlib.blake2b(digest_size=16)
    for spec in specs:
        command, retry = spec.command, spec.retry
        policy = None if retry == _DEFAULT_RETRY else retry
        rest = (
            command.argv, sorted(command.env.items()), command.work_dir, len(command.stdin),
            spec.name, sorted(spec.labels.items()), spec.queue, spec.priority, spec.cluster,
            spec.timeout, policy, spec.stop_grace, spec.output_limit_bytes,
        )  # fmt: skip
        later = [
            (name, given)
            for name, absent in _LATER.items()
            if (given := getattr(spec, name)) != absent
        ]
        digest.update(repr((*rest, later) if later else rest).encode())
        if spec.dependencies:
            digest.update(repr((spec.dependencies, spec.dependency_policy)).encode())
        digest.update(command.stdin)
    return digest.digest()
