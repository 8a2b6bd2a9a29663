"""What is odd about the environment of a start is in the log, and the start goes on."""

from pathlib import Path

from jobservice import Client, State
from jobservice.testing.server import Server
from tests.integration.conftest import Serve
from tests.integration.remote import at_work

TYPO = "JOBSERVICE_SLOT"
MUTANT = "JOBSERVICE_MUTANT"
BUG = "runner.kills_parent_alone"
FAILPOINT = "JOBSERVICE_FAILPOINT"
PLACE = "runner.upgrading"


def warned(program: Server) -> set[tuple[str, str, str]]:
    """What a program warned of at its start."""
    events = (
        "unknown variable",
        "a deliberate bug is switched on",
        "this process kills itself at a failpoint",
    )
    return {
        (event, line["level"], line["variable"]) for event in events for line in program.said(event)
    }


def test_what_makes_a_service_go_wrong_is_said_at_its_start(serve: Serve, data_dir: Path) -> None:
    server = serve(env={TYPO: "3", MUTANT: BUG, FAILPOINT: PLACE}, tcp=True).start()
    expected = {
        ("unknown variable", "warning", TYPO),
        ("a deliberate bug is switched on", "warning", MUTANT),
        ("this process kills itself at a failpoint", "warning", FAILPOINT),
    }
    assert warned(server) == expected
    (typo,) = server.said("unknown variable")
    assert typo["did_you_mean"] == "JOBSERVICE_SLOTS"
    with Client(server.unix_address) as client:
        job = client.create(["true"])
        assert client.wait(job, timeout=30).state is State.SUCCEEDED
    said = (data_dir / "runner" / "runner.log").read_text()
    assert f"warning: {MUTANT}={BUG} is set and {FAILPOINT}={PLACE} is set" in said
    with at_work(server.tcp_address, env={TYPO: "3", MUTANT: BUG, FAILPOINT: PLACE}) as worker:
        assert warned(worker) == expected


def test_an_environment_without_anything_odd_is_not_spoken_of(serve: Serve, data_dir: Path) -> None:
    server = serve(env={"JOBSERVICE_LEASE_S": "30"}).start()
    with Client(server.unix_address) as client:
        job = client.create(["true"])
        assert client.wait(job, timeout=30).state is State.SUCCEEDED
    assert not warned(server)
    assert "warning" not in (data_dir / "runner" / "runner.log").read_text()
