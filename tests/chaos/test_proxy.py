"""The network that fails on request."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobservice.testing.proxy import BLACK_HOLE, CALM, Proxy, Trouble

SOON_S = 0.2


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that says again what it hears."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


@pytest.fixture
def proxy(echo: str) -> Iterator[Proxy]:
    with Proxy(echo) as made:
        yield made


def connected(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    made = socket.create_connection((host, int(port)), timeout=30)
    made.settimeout(30)
    return made


def said(connection: socket.socket, data: bytes = b"hello") -> bytes:
    connection.sendall(data)
    found = b""
    while len(found) < len(data):
        piece = connection.recv(4096)
        if not piece:
            break
        found += piece
    return found


def test_it_passes_everything_on(proxy: Proxy) -> None:
    with connected(proxy) as one, connected(proxy) as other:
        assert said(one, b"x" * 100_000) == b"x" * 100_000
        assert said(other) == b"hello"


def test_it_listens_on_a_unix_socket_and_reaches_one(tmp_path: Path, echo: str) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    with (
        Proxy(echo, path=far) as inner,
        Proxy(inner.address, path=near),
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.connect(str(near))
        assert said(connection) == b"hello"


def test_a_cut_breaks_what_is_open_and_nothing_else(proxy: Proxy) -> None:
    with connected(proxy) as one:
        assert said(one) == b"hello"
        assert proxy.cut() == 1
        with contextlib.suppress(ConnectionError):
            assert one.recv(10) == b""
    with connected(proxy) as other:
        assert said(other) == b"hello"


def test_it_refuses_new_connections(proxy: Proxy) -> None:
    proxy.set(Trouble(refuses=True))
    with connected(proxy) as one, contextlib.suppress(ConnectionError):
        assert said(one) == b""


def test_a_delay_and_a_throttle_cost_time(proxy: Proxy) -> None:
    with connected(proxy) as one:
        for trouble in (Trouble(delay_s=SOON_S), Trouble(bytes_a_second=50)):
            proxy.set(trouble)
            begun = time.monotonic()
            assert said(one, b"0123456789") == b"0123456789"
            assert time.monotonic() - begun >= 2 * SOON_S


def test_what_a_black_hole_swallowed_breaks_the_connection_once_it_is_over(proxy: Proxy) -> None:
    with connected(proxy) as one, connected(proxy) as silent:
        assert said(silent) == b"hello"
        proxy.set(BLACK_HOLE)
        one.sendall(b"lost")
        one.settimeout(SOON_S)
        with pytest.raises(TimeoutError):
            one.recv(10)
        proxy.set(CALM)
        one.settimeout(30)
        with contextlib.suppress(ConnectionError):
            assert one.recv(10) == b""
        assert said(silent) == b"hello"  # of which nothing was lost


def test_answers_alone_may_be_lost(proxy: Proxy) -> None:
    with connected(proxy) as one:
        proxy.set(Trouble(swallows_answers=True))
        one.sendall(b"heard")
        one.settimeout(SOON_S)
        with pytest.raises(TimeoutError):
            one.recv(10)


def test_nobody_to_pass_on_to(tmp_path: Path) -> None:
    with (
        Proxy(f"unix:{tmp_path}/nobody") as made,
        connected(made) as one,
        contextlib.suppress(ConnectionError),
    ):
        assert one.recv(10) == b""
