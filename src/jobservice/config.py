"""Every setting of the server and of the worker: its name, type, default, unit and one sentence.

A setting comes from a flag of `jobservice serve`, else from the environment as `JOBSERVICE_<NAME>`, else
from its default; those of `jobservice worker` likewise, as `JOBSERVICE_WORKER_<NAME>`. A test holds
`docs/reference/settings.md` to this file. The SDK and the command line do not load it.
"""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]
_PAIRS = re.compile(r"([^=,\s]+=[^,]*(,[^=,\s]+=[^,]*)*)?")
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):(?P<port>[0-9]{1,5})")
_HIGHEST_PORT = 65_535


class HostSettings(BaseSettings):
    """What a server and a worker on another host both are told of their host."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    data_dir: Path
    slots: int = Field(
        2,
        ge=0,
        le=10_000,
        description="How many attempts run at once on this host; 0 runs nothing.",
    )
    labels: str = Field(
        "",
        description="What this host is, for jobs that ask for labels: NAME=VALUE, several with commas "
        "between them.",
    )
    resources: str = Field(
        "",
        description="What attempts may take of this host: cpu=8,memory=32GiB,gpu=2 and whatever else "
        "is counted; processors and memory that are not given are all that the host has.",
    )
    containment: Literal["auto", "cgroup", "subreaper"] = Field(
        "auto",
        description="How the process tree of an attempt is held together: by a cgroup of its own, "
        "by a supervising process, or by whichever this host allows.",
    )
    stop_jobs: bool = Field(
        False,
        description="On shutdown also stop the running jobs and the runner; the jobs are queued "
        "again. Otherwise they go on.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important lines that are logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="How lines are logged; auto is JSON when not on a terminal."
    )
    runner_idle_s: Seconds = Field(
        60.0,
        description="How long the runner stays after its last job when nobody is connected to it.",
    )

    @field_validator("labels", "resources")
    @classmethod
    def _are_pairs(cls, pairs: str) -> str:
        if _PAIRS.fullmatch(pairs) is None:
            raise ValueError("must be NAME=VALUE, several with commas between them")
        return pairs


class Settings(HostSettings):
    """The settings of one `jobservice serve`."""

    model_config = SettingsConfigDict(env_prefix="JOBSERVICE_", frozen=True, extra="forbid")

    data_dir: Path = Field(
        description="The directory of the database, the socket, the attempts and the runner; made "
        "with mode 0700 where it does not exist."
    )
    database: SecretStr | None = Field(
        None,
        description="The PostgreSQL database that holds the jobs, as postgresql://USER@HOST/NAME; "
        "without it they are in jobservice.db in the data directory. A password belongs into the "
        "environment variable or ~/.pgpass, not on the command line.",
    )
    database_direct: SecretStr | None = Field(
        None,
        description="The address of the database itself, where `database` is that of a pooler, which "
        "then ends in ?pool_mode=transaction; without it services hear of each other by a poll.",
    )
    listen: str | None = Field(
        None,
        description="Also listen on this HOST:PORT; without TLS only a loopback address is accepted.",
    )
    tls_cert: Path | None = Field(
        None,
        description="The PEM file of the certificate that TCP is served with, and those between it "
        "and its authority. With it clients must have one too. Files that change are read anew.",
    )
    tls_key: Path | None = Field(
        None, description="The PEM file of the private key of the certificate."
    )
    tls_ca: Path | None = Field(
        None,
        description="The PEM file of the authorities whose certificates let a client in.",
    )
    shutdown_s: Seconds = Field(
        30.0, le=3600, description="The longest time from SIGTERM to the exit, in seconds."
    )
    lease_s: Seconds = Field(
        30.0, ge=3, description="How long a lease on an attempt holds without being extended."
    )
    leader_lease_s: Seconds = Field(
        10.0,
        ge=1,
        le=600,
        description="How long one of several servers on a database leads them without renewing that; "
        "after 4/3 of it at the latest another fires schedules and sweeps in its place, in seconds.",
    )
    poll_s: Seconds = Field(
        5.0,
        ge=0.1,
        description="How often work, stops and due jobs are looked for when no hint came.",
    )
    store_timeout_s: Seconds = Field(
        4.0, description="How long a call waits for the database, in seconds."
    )
    held_open_s: Seconds = Field(
        60.0,
        ge=1,
        description="A transaction on the PostgreSQL database that is open for longer is named in the "
        "log, in seconds.",
    )
    wait_timeout_s: Seconds = Field(
        3600.0, description="The longest time of a DeleteJob and of a CancelJob that waits."
    )
    max_message_bytes: int = Field(
        16 << 20, ge=4 << 20, le=1 << 30, description="The largest request that is received."
    )
    max_calls: int = Field(
        2000, ge=10, description="How many calls may be in flight; one more is RESOURCE_EXHAUSTED."
    )
    max_streams: int = Field(
        1000, ge=1, description="How many WatchJobs and ReadLogs streams may be open at once."
    )
    write_queue: int = Field(
        10_000,
        ge=1,
        description="How many writes may wait for the database before they are refused.",
    )
    change_buffer: int = Field(
        10_000,
        ge=100,
        description="How many changes watchers find in memory; a slower one reads the store.",
    )
    request_retention_days: int = Field(
        7,
        ge=1,
        description="How long a request_id, the tombstone of a deleted job and an operation that has "
        "ended are remembered.",
    )

    @property
    def socket_path(self) -> Path:
        """The Unix socket that the service listens on."""
        return self.data_dir / "jobservice.sock"

    @field_validator("listen")
    @classmethod
    def _is_host_and_port(cls, listen: str | None) -> str | None:
        if listen is not None:
            host, _, port = listen.rpartition(":")
            if not host or re.fullmatch(r"[0-9]+", port) is None:
                raise ValueError("must be HOST:PORT, such as 127.0.0.1:7400")
            if int(port) > _HIGHEST_PORT:
                raise ValueError(
                    f"the port must be 1 to {_HIGHEST_PORT}, or 0 for any that is free"
                )
        return listen

    @field_validator("database", "database_direct")
    @classmethod
    def _is_postgresql(cls, database: SecretStr | None) -> SecretStr | None:
        if database is not None:
            scheme, separator, _ = database.get_secret_value().partition("://")
            if scheme not in {"postgresql", "postgres"} or not separator:
                raise ValueError("must be an address like postgresql://USER@HOST:5432/NAME")
        return database

    @model_validator(mode="after")
    def _is_all_of_tls(self) -> Self:
        given = {"--tls-cert": self.tls_cert, "--tls-key": self.tls_key, "--tls-ca": self.tls_ca}
        missing = [option for option, path in given.items() if path is None]
        if self.listen is not None and 0 < len(missing) < len(given):
            raise ValueError(
                "TLS needs all of --tls-cert, --tls-key and --tls-ca; give "
                f"{' and '.join(missing)} too"
            )
        return self

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "jobservice.db"


class WorkerSettings(HostSettings):
    """The settings of one `jobservice worker`."""

    model_config = SettingsConfigDict(env_prefix="JOBSERVICE_WORKER_", frozen=True, extra="forbid")

    data_dir: Path = Field(
        description="The directory of the attempts and the runner, which no server and no other "
        "worker uses; made with mode 0700 where it does not exist."
    )
    server: str = Field(
        description="The servers to work for, each as HOST:PORT or unix:/PATH, with commas between "
        "them; they are of one database, and one is asked until it does not answer.",
    )
    tls_ca: Path | None = Field(
        None,
        description="The PEM file of the authorities of the servers; without it TCP goes without TLS.",
    )
    tls_cert: Path | None = Field(
        None, description="The PEM file of the certificate that the worker shows to servers."
    )
    tls_key: Path | None = Field(
        None, description="The PEM file of the private key of that certificate."
    )
    shutdown_s: Seconds = Field(
        30.0,
        le=3600,
        description="The longest time from SIGTERM to the exit, in seconds; running jobs go on "
        "under the runner until the time without an answer is over.",
    )
    poll_s: Seconds = Field(
        20.0, ge=0.1, le=60, description="How long one call waits for jobs to come."
    )

    @field_validator("server")
    @classmethod
    def _are_addresses(cls, server: str) -> str:
        for each in server.split(","):
            if not is_address(each):
                raise ValueError(
                    "must be HOST:PORT or unix:/PATH, several with commas between them, and a port "
                    f"1 to {_HIGHEST_PORT}"
                )
        return server

    @property
    def servers(self) -> list[str]:
        """The servers one by one."""
        return self.server.split(",")


def is_address(text: str) -> bool:
    """Whether a service can be there, by the form of the address: the client's rule; a test compares."""
    if text.startswith("unix:"):
        return re.fullmatch(r"unix:(//)?/\S*", text) is not None
    found = _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found["port"]) <= _HIGHEST_PORT


def variable_of(kind: type[HostSettings], name: str) -> str:
    """The variable of a setting, as it is written in the environment if it is there."""
    variable = f"{kind.model_config['env_prefix']}{name}".upper()
    return next((each for each in os.environ if each.upper() == variable), variable)


def is_in_environment(variable: str) -> bool:
    """Whether there is such a variable."""
    return variable in os.environ


PREFIX = "JOBSERVICE_"
NOT_OF_A_SERVICE = frozenset(
    {
        "JOBSERVICE_ADDRESS",
        "JOBSERVICE_COPY_FROM",
        "JOBSERVICE_COPY_TO",
        "JOBSERVICE_FAILPOINT",
        "JOBSERVICE_MUTANT",
        "JOBSERVICE_JOB_ID",
        "JOBSERVICE_ATTEMPT",
        "JOBSERVICE_ATTEMPT_KEY",
        "JOBSERVICE_PROGRESS",
        "JOBSERVICE_ARRAY_JOB_ID",
        "JOBSERVICE_ARRAY_INDEX",
        "JOBSERVICE_ARRAY_SIZE",
        "JOBSERVICE_ARRAY_ITEM",
        "JOBSERVICE_SCHEDULE",
        "JOBSERVICE_SCHEDULE_TIME",
    }
)
"""Variables of ours that are no setting: of clients and `db copy`, of tests, and those that a job is
given, which may start a service itself. A test holds them to the code."""
OF_TESTS = "JOBSERVICE_TEST_"


def unknown_variables() -> Iterator[tuple[str, str]]:
    """Each variable that begins as ours do and is none, with the known one that is nearest, or empty."""
    known = set(NOT_OF_A_SERVICE)
    for kind in (Settings, WorkerSettings):
        known |= {f"{kind.model_config['env_prefix']}{name}".upper() for name in kind.model_fields}
    for name in sorted(os.environ):
        wanted = name.upper()
        if wanted.startswith(PREFIX) and not wanted.startswith(OF_TESTS) and wanted not in known:
            near = difflib.get_close_matches(wanted, sorted(known), n=1)
            yield name, near[0] if near else ""
