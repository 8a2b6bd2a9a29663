"""What is said of settings that are wrong: where each was given, the rule, the value, the remedy."""

import re
from pathlib import Path
from typing import Any

import pytest

from jobservice.cli.settings import settings_of
from jobservice.client import address
from jobservice.config import (
    NOT_OF_A_SERVICE,
    OF_TESTS,
    HostSettings,
    Settings,
    WorkerSettings,
    is_address,
    unknown_variables,
)
from jobservice.errors import InvalidRequest, SetupError
from tests.arch import tree
from tests.cli.conftest import Shell


def refused(kind: type[HostSettings], **given: Any) -> list[str]:
    """The lines about what is wrong with these settings."""
    with pytest.raises(SetupError) as raised:
        settings_of(kind, Path("/data"), given)
    first, *lines = raised.value.message.split("\n")
    assert first.endswith("cannot start as it is configured.")
    return [each.strip() for each in lines]


def test_every_wrong_option_has_a_line_with_its_rule_and_its_value() -> None:
    assert refused(Settings, slots=-1, listen="foo", labels="x", resources="y") == [
        "--slots: must be a whole number from 0 to 10,000; got -1",
        "--labels: must be NAME=VALUE, several with commas between them; got 'x'",
        "--resources: must be NAME=VALUE, several with commas between them; got 'y'",
        "--listen: must be HOST:PORT, such as 127.0.0.1:7400; got 'foo'",
    ]


def test_what_came_from_the_environment_is_named_after_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = {
        "JOBSERVICE_SLOTS": "many",
        "JOBSERVICE_CONTAINMENT": "box",
        "JOBSERVICE_STOP_JOBS": "perhaps",
        "JOBSERVICE_SHUTDOWN_S": "9999",
        "JOBSERVICE_lease_s": "x" * 100,
        "JOBSERVICE_LEADER_LEASE_S": "0",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    assert refused(Settings) == [
        "JOBSERVICE_SLOTS: must be a whole number from 0 to 10,000; got 'many'",
        "JOBSERVICE_CONTAINMENT: must be 'auto', 'cgroup' or 'subreaper'; got 'box'",
        "JOBSERVICE_STOP_JOBS: must be true or false; got 'perhaps'",
        "JOBSERVICE_SHUTDOWN_S: must be a number of seconds, above 0 and at most 3,600; got '9999'",
        f"JOBSERVICE_lease_s: must be a number of seconds, at least 3; got '{'x' * 60}…'",
        "JOBSERVICE_LEADER_LEASE_S: must be a number of seconds from 1 to 600; got '0'",
    ]


def test_an_option_goes_before_its_variable_also_when_it_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOBSERVICE_SLOTS", "4")
    assert refused(Settings, slots=-1)[0].startswith("--slots: ")


@pytest.mark.parametrize("given", [True, False])
def test_the_address_of_a_database_is_not_shown(
    given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "mysql://user:secret@host/jobs"
    if not given:
        monkeypatch.setenv("JOBSERVICE_DATABASE", url)
    (line,) = refused(Settings, **({"database": url} if given else {}))
    where = "--database" if given else "JOBSERVICE_DATABASE"
    assert line.startswith(f"{where}: must be an address like postgresql://USER@HOST:5432/NAME")
    assert "secret" not in line


@pytest.mark.parametrize("port", ["65536", "99999", "123456"])
def test_a_port_that_there_is_not(port: str) -> None:
    (line,) = refused(Settings, listen=f"127.0.0.1:{port}")
    assert line == (
        f"--listen: the port must be 1 to 65535, or 0 for any that is free; got '127.0.0.1:{port}'"
    )


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:65535", "localhost:1"])
def test_ports_that_there_are(listen: str) -> None:
    assert settings_of(Settings, Path("/data"), {"listen": listen}).listen == listen


def test_the_files_of_tls_that_are_missing_are_named() -> None:
    (line,) = refused(Settings, listen="127.0.0.1:7400", tls_cert="cert.pem")
    assert line.endswith("give --tls-key and --tls-ca too")


def test_a_worker_is_told_how_to_name_its_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = refused(WorkerSettings)
    assert line.startswith(
        "--server: must be given, by this option or as JOBSERVICE_WORKER_SERVER. The servers"
    )
    rule = (
        "must be HOST:PORT or unix:/PATH, several with commas between them, and a port 1 to 65535"
    )
    assert refused(WorkerSettings, server="foo") == [f"--server: {rule}; got 'foo'"]
    monkeypatch.setenv("JOBSERVICE_WORKER_SERVER", "a:7400,b:99999")
    assert refused(WorkerSettings) == [
        f"JOBSERVICE_WORKER_SERVER: {rule}; got 'a:7400,b:99999'",
    ]


@pytest.mark.parametrize(
    "text",
    ["a:1", "a.example:65535", "a:65536", "a:0", "a", "a:", ":1", "[::1]:7400", "::1:7400", "a/b:1",
     "unix:/run/s", "unix:///run/s", "unix:run", "unix:", "http://a:1", "a:1x", "a:123456", ""],
)  # fmt: skip
def test_a_server_is_what_a_client_can_connect_to(text: str) -> None:
    try:
        address.resolve(text, {"JOBSERVICE_ADDRESS": "nowhere"})
    except InvalidRequest:
        assert not is_address(text)
    else:
        assert is_address(text)


def test_a_start_that_is_refused_ends_with_its_own_code(alone: Shell) -> None:
    ran = alone("serve", "--listen", "127.0.0.1:99999", JOBSERVICE_LEASE_S="1")
    assert (ran.code, ran.raw) == (78, b"")
    assert ran.err.splitlines() == [
        "Error: The service cannot start as it is configured. (SETUP)",
        "  --listen: the port must be 1 to 65535, or 0 for any that is free; got '127.0.0.1:99999'",
        "  JOBSERVICE_LEASE_S: must be a number of seconds, at least 3; got '1'",
    ]
    ran = alone("worker", "--server", "foo")
    assert ran.code == 78
    assert "--server: must be HOST:PORT or unix:/PATH" in ran.err


# --- variables that nobody reads --------------------------------------------------------------


def test_a_variable_that_nobody_reads_is_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {
        *NOT_OF_A_SERVICE,
        "JOBSERVICE_SLOTS",
        "jobservice_lease_s",
        "JOBSERVICE_WORKER_SERVER",
        "JOBSERVICE_TLS_CA",
        "JOBSERVICE_TEST_DATABASE_URL",
        "_JOBSERVICE_COMPLETE",
        "MY_JOBSERVICE_X",
    }
    for name in known:
        monkeypatch.setenv(name, "1")
    before = set(unknown_variables())
    monkeypatch.setenv("JOBSERVICE_SLOT", "3")
    monkeypatch.setenv("JOBSERVICE_WORKER_SEVER", "a:1")
    monkeypatch.setenv("JOBSERVICE_ZQXJKV_ZQXJKV_ZQXJKV", "")
    assert set(unknown_variables()) - before == {
        ("JOBSERVICE_SLOT", "JOBSERVICE_SLOTS"),
        ("JOBSERVICE_WORKER_SEVER", "JOBSERVICE_WORKER_SERVER"),
        ("JOBSERVICE_ZQXJKV_ZQXJKV_ZQXJKV", ""),
    }
    assert not {name for name, _ in before} & known


def test_every_variable_that_the_code_names_is_known() -> None:
    named = {
        name
        for path in tree.modules()
        if path.name != "config.py"
        for name in re.findall(
            r"(?<!_)JOBSERVICE_[A-Z_]*[A-Z]\b", (tree.PACKAGE / path).read_text()
        )
    }
    fields = {
        f"{kind.model_config['env_prefix']}{name}".upper()
        for kind in (Settings, WorkerSettings)
        for name in kind.model_fields
    }
    assert not {name for name in named - fields - NOT_OF_A_SERVICE if not name.startswith(OF_TESTS)}
    assert named >= NOT_OF_A_SERVICE
