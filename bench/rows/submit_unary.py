"""Durable submits one by one, 50 in flight, beside a server on the same stack that only echoes."""

import re
import subprocess
from pathlib import Path

from bench.bare_server import bare_server
from bench.report import Ratio, Row, Samples, per_round
from bench.service import CALL, Service, connected, create_request, jobs_named
from bench.tools import require_h2load
from bench.workplace import Workplace

IN_FLIGHT = 50
ARGV = ("/bin/true", "of", "the", "bench")
_RATE = re.compile(r"^finished in .*?, ([\d.]+) req/s", re.MULTILINE)
_DONE = re.compile(r"^requests: .* (\d+) succeeded, 0 failed, 0 errored, 0 timeout", re.MULTILINE)


def measure(place: Workplace) -> list[Row]:
    """Calls per second of both, loaded by the same program."""
    h2load = require_h2load()
    calls = place.amount(8000, 2000)
    ours, reference = [], []
    with (
        place.service(slots=0, tcp=True) as service,
        bare_server("echo", "127.0.0.1:0") as echo,
    ):
        for address in (service.tcp_address, echo):
            _load(h2load, address, _body(place, "warm-up"), 1000)
        for number in place.rounds(5, 3):
            body = _body(place, f"round-{number}")
            ours.append(_load(h2load, service.tcp_address, body, calls))
            reference.append(_load(h2load, echo, body, calls))
        _check_stored(service, {f"round-{number}": calls for number in range(len(ours))})
    return [
        Row(
            "submit_unary",
            f"durable unary submits, {IN_FLIGHT} in flight / unary echo",
            Samples(ours, "calls/s"),
            Samples(reference, "calls/s"),
            Ratio(per_round(ours, reference), required=0.75, aim=0.85, percent=True),
        )
    ]


def _body(place: Workplace, name: str) -> Path:
    """A CreateJobRequest as gRPC sends it: not compressed, its length, itself."""
    message = create_request(*ARGV, name=name).SerializeToString()
    path = place.path(name)
    path.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    return path


def _load(h2load: str, address: str, body: Path, calls: int) -> float:
    """Calls per second."""
    command = [h2load, "--requests", str(calls), "--clients", "1"]
    command += ["--max-concurrent-streams", str(IN_FLIGHT), "--data", str(body)]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    ran = subprocess.run(
        [*command, f"http://{address}{CALL}CreateJob"], check=True, capture_output=True, text=True
    )
    rate, done = _RATE.search(ran.stdout), _DONE.search(ran.stdout)
    if rate is None or done is None or int(done[1]) != calls:
        raise RuntimeError(f"h2load did not do what it was asked to:\n{ran.stdout}")
    return float(rate[1])


def _check_stored(service: Service, names: dict[str, int]) -> None:
    """HTTP says 200 to refused calls too: each job must be there."""
    with connected(service.unix_address) as channel:
        for name, calls in names.items():
            stored = sum(1 for _ in jobs_named(channel, name))
            assert stored == calls, f"{stored} jobs of {calls} are stored"
