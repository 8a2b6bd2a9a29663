"""TLS on TCP: who has a certificate gets in from anywhere, nobody else does; files may change."""

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from jobservice import Client, Tls
from jobservice.errors import SetupError, Unavailable
from jobservice.model.lifecycle import State
from jobservice.testing.server import COMMAND, RemoteWorker, Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import short_directory, tidy
from tests.integration.remote import at_work
from tests.integration.test_faults import SETUP_EXIT_CODE, serve_once
from tests.integration.test_foreign_client import BUF

SECONDS = 5


@dataclasses.dataclass
class Party:
    """The files of one who takes part."""

    tls: Tls

    @classmethod
    def make(cls, folder: Path, authority: trustme.CA, *names: str) -> "Party":
        folder.mkdir(exist_ok=True)
        cert = authority.issue_cert(*names)
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        cert.private_key_pem.write_to_path(str(folder / "key.pem"))
        (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in cert.cert_chain_pems))
        return cls(Tls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem"))

    @property
    def options(self) -> list[str]:
        """As those of the command line."""
        named = {"--tls-ca": self.tls.ca, "--tls-cert": self.tls.cert, "--tls-key": self.tls.key}
        return [str(word) for pair in named.items() for word in pair]


@dataclasses.dataclass
class Place:
    """A service that everybody could reach, and a client that it lets in."""

    server: Server
    folder: Path
    ours: Party

    @property
    def address(self) -> str:
        return f"localhost:{self.server.tcp_address.rpartition(':')[2]}"

    def client(self, tls: Tls | None) -> Client:
        return Client(self.address, tls=tls, first_patience=0.0, timeout=SECONDS)

    def is_refused(self, tls: Tls | None) -> bool:
        with self.client(tls) as client:
            try:
                list(client.active())
            except Unavailable:
                return True
            return False


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def place(tmp_path: Path, authority: trustme.CA) -> Iterator[Place]:
    service = Party.make(tmp_path / "service", authority, "localhost")
    ours = Party.make(tmp_path / "ours", authority, "ci@example.org")
    for data_dir in short_directory():
        server = Server(data_dir, "--listen", "0.0.0.0:0", *service.options).start()
        yield Place(server, tmp_path, ours)
        tidy(server)


def test_who_has_a_certificate_gets_in_and_nobody_else(place: Place) -> None:
    other = Party.make(place.folder / "other", trustme.CA(), "ci@example.org").tls
    with place.client(place.ours.tls) as client:
        assert client.wait(client.create(["true"])).state is State.SUCCEEDED
    assert place.is_refused(None)
    assert place.is_refused(Tls(place.ours.tls.ca)), "a client has to say who it is"
    assert place.is_refused(Tls(place.ours.tls.ca, other.cert, other.key))
    assert place.is_refused(other), "and the service too"


def test_the_command_line_and_another_client_get_in(place: Place) -> None:
    called = [str(COMMAND), "--address", place.address, *place.ours.options]
    done = subprocess.run(
        [*called, "submit", "--wait", "--", "echo", "hello"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "SUCCEEDED" in done.stderr
    tls = place.ours.tls
    certificates = ["--cacert", str(tls.ca), "--cert", str(tls.cert), "--key", str(tls.key)]
    url = f"https://{place.address}/jobservice.v1.JobService/ListJobs"
    curl = [str(BUF), "curl", "--protocol", "grpc", *certificates, "--data", "{}", url]
    listed = subprocess.run(curl, capture_output=True, text=True, timeout=30, check=True)
    assert "JOB_STATE_SUCCEEDED" in listed.stdout


def is_refused(worker: RemoteWorker) -> None:
    """A worker says that it is not let in."""
    worker.spawn()
    wait_until(lambda: "Socket closed" in worker.log_tail(), what="a refusal")
    worker.stop()


def test_a_worker_with_a_certificate_gets_jobs_and_one_without_none(place: Place) -> None:
    tls = place.ours.tls
    files = {"CA": tls.ca, "CERT": tls.cert, "KEY": tls.key}
    given = {f"JOBSERVICE_WORKER_TLS_{name}": str(path) for name, path in files.items()}
    with place.client(tls) as client:
        [service] = client.workers.list()
        client.workers.drain(service.info.worker_id)
        with at_work(place.address, env=given) as worker:
            done = client.wait(client.create(["echo", "hello"]), timeout=30)
            ours = worker.worker_id
            assert done.attempts[0].worker_id == ours
            assert b"".join(each.data for each in client.logs(done)) == b"hello\n"
        for data_dir in short_directory():
            is_refused(RemoteWorker(data_dir, place.address))
        known = [each.info.worker_id for each in client.workers.list()]
        assert sorted(known) == sorted([service.info.worker_id, ours])
        client.workers.resume(service.info.worker_id)


def test_files_that_change_are_read_anew(place: Place, authority: trustme.CA) -> None:
    later = trustme.CA()
    theirs = Party.make(place.folder / "later", later, "ci@example.org").tls
    with place.client(place.ours.tls) as client:
        assert list(client.active()) == []
        Party.make(place.folder / "service", later, "localhost")
        wait_until(lambda: not place.is_refused(theirs), what="the new authority to be known")
        assert place.is_refused(place.ours.tls)
        assert list(client.active()) == [], "who is connected stays"
    stray = authority.issue_cert("localhost").private_key_pem
    stray.write_to_path(str(place.folder / "service" / "key.pem"))
    assert not place.is_refused(theirs), "a key of another certificate is left alone"
    wait_until(lambda: "certificates_not_read" in place.server.log_tail(), what="a word about it")


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (["--tls-cert", "{cert}"], "--tls-key"),
        (["--tls-cert", "{cert}", "--tls-key", "{key}", "--tls-ca", "/nowhere"], "/nowhere"),
        (["--tls-cert", "{cert}", "--tls-key", "{ca}", "--tls-ca", "{ca}"], "belong together"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_sentence(
    tmp_path: Path, authority: trustme.CA, wrong: list[str], word: str
) -> None:
    files = dataclasses.asdict(Party.make(tmp_path / "x", authority, "localhost").tls)
    options = ["--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
    refused = serve_once(*options, *[each.format(**files) for each in wrong])
    assert refused.returncode == SETUP_EXIT_CODE
    assert word in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_client_needs_the_files_that_it_names(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nowhere"):
        Client("localhost:1", tls=Tls(tmp_path / "nowhere"))
    with pytest.raises(SetupError, match="needs its key"):
        Tls(tmp_path, cert=tmp_path)
