"""The rules of the SDK that need no service: where it is, and when it is asked again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobservice
from jobservice.client.address import default_data_dir, resolve
from jobservice.client.retrying import LONGEST_WAIT_S, Patience
from jobservice.errors import Draining, InvalidRequest, NotFound, Unavailable
from jobservice.wire.status import FOREIGN

LOST = Unavailable("gone", **{FOREIGN: "UNAVAILABLE"})


@pytest.mark.parametrize(
    ("given_", "meant"),
    [
        ("unix:/a/b.sock", "unix:/a/b.sock"),
        ("unix:///a/b.sock", "unix:/a/b.sock"),
        ("localhost:80", "localhost:80"),
        ("[::1]:7400", "[::1]:7400"),
        ("10.0.0.1:7400", "10.0.0.1:7400"),
    ],
)
def test_an_address_is_a_socket_or_a_host_with_its_port(given_: str, meant: str) -> None:
    assert resolve(given_, {}) == meant


@pytest.mark.parametrize(
    "given_", ["unix:relative", "/a/b.sock", "host", "host:", "host:99999", "http://host:80", "h:0"]
)
def test_anything_else_is_refused(given_: str) -> None:
    with pytest.raises(InvalidRequest, match="unix:/ABSOLUTE/PATH or HOST:PORT"):
        resolve(given_, {})


def test_the_environment_says_where_the_service_is() -> None:
    assert resolve(None, {"JOBSERVICE_ADDRESS": "h:1"}) == "h:1"
    assert resolve("h:2", {"JOBSERVICE_ADDRESS": "h:1"}) == "h:2"
    assert resolve(None, {"JOBSERVICE_DATA_DIR": "/d"}) == "unix:/d/jobservice.sock"
    assert resolve(None, {"XDG_DATA_HOME": "/x"}) == "unix:/x/jobservice/jobservice.sock"
    home = Path.home() / ".local/share/jobservice"
    assert default_data_dir({}) == default_data_dir({"XDG_DATA_HOME": "relative"}) == home


def test_only_an_unavailable_service_is_asked_again() -> None:
    assert Patience(10).wait_s(NotFound("no"), 0, 0) is None
    assert Patience(10).wait_s(LOST, 0, 0) is not None


def test_what_may_not_happen_twice_is_repeated_only_when_it_did_not_happen() -> None:
    assert Patience(10).wait_s(LOST, 0, 0, repeatable=False) is None
    assert Patience(10).wait_s(Draining(), 0, 0, repeatable=False) is not None


def test_patience_counts_from_the_last_answer() -> None:
    patience = Patience(10)
    assert patience.wait_s(LOST, 100, 0) is not None
    assert patience.wait_s(LOST, 110, 0) is None
    patience.answered()
    assert patience.wait_s(LOST, 200, 0) is not None


def test_a_service_that_answered_once_is_waited_for() -> None:
    patience = Patience(10, first_s=0)
    assert patience.wait_s(LOST, 100, 0) is None
    patience = Patience(10, first_s=0)
    patience.answered()
    assert patience.wait_s(LOST, 100, 0) is not None


@given(st.floats(0, 1, exclude_max=True))
def test_waits_grow_to_a_second(fraction: float) -> None:
    patience = Patience(1e9)
    waits = [patience.wait_s(LOST, 0, fraction) or 0 for _ in range(10)]
    assert waits == sorted(waits)
    assert LONGEST_WAIT_S / 2 <= waits[-1] <= LONGEST_WAIT_S


def test_the_package_gives_its_names_when_asked() -> None:
    assert set(jobservice.__all__) <= set(dir(jobservice))
    assert all(getattr(jobservice, name) is not None for name in jobservice.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = jobservice.Nothing
