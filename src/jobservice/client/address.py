"""Where the service is: an address given, in the environment, or the socket of the data directory.

Over TCP it may be asked who it is, and told who we are.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

from jobservice.errors import InvalidRequest, SetupError, Violation

_HOST_PORT = re.compile(r"^(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):(\d{1,5})$")
_WHAT = "must be unix:/ABSOLUTE/PATH or HOST:PORT"
_ENVIRONMENT = os.environ  # noqa: TID251 - of the caller's process; config.py is the server's


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM for connections over TCP."""

    ca: str | os.PathLike[str]
    """The authorities that the certificate of the service must be of."""
    cert: str | os.PathLike[str] | None = None
    """Our certificate, with those between it and the authority behind it."""
    key: str | os.PathLike[str] | None = None
    """The private key of the certificate."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise SetupError("A certificate for TLS needs its key, and a key its certificate.")


def tls_of(
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    environment: Mapping[str, str] = _ENVIRONMENT,
) -> Tls | None:
    """What is given, else JOBSERVICE_TLS_CA, …_CERT and …_KEY; None is without TLS.

    Raises:
        SetupError: there is a certificate or a key, and no file of authorities.
    """
    ca = ca or environment.get("JOBSERVICE_TLS_CA") or None
    cert = cert or environment.get("JOBSERVICE_TLS_CERT") or None
    key = key or environment.get("JOBSERVICE_TLS_KEY") or None
    if ca is not None:
        return Tls(ca, cert, key)
    if cert is not None or key is not None:
        raise SetupError("TLS needs the authorities of the service: give --tls-ca.")
    return None


def resolve(address: str | None, environment: Mapping[str, str] = _ENVIRONMENT) -> str:
    """The address to connect to: `address`, else JOBSERVICE_ADDRESS, else the default socket.

    Raises:
        InvalidRequest: it is neither `unix:/path` nor `host:port`.
    """
    found = address or environment.get("JOBSERVICE_ADDRESS") or default_address(environment)
    return _checked(found)


def default_address(environment: Mapping[str, str] = _ENVIRONMENT) -> str:
    """The socket in the default data directory."""
    return f"unix:{default_data_dir(environment).absolute() / 'jobservice.sock'}"


def default_data_dir(environment: Mapping[str, str] = _ENVIRONMENT) -> Path:
    """JOBSERVICE_DATA_DIR, else `jobservice` below XDG_DATA_HOME, else `~/.local/share/jobservice`.

    XDG Base Directory Specification 0.8: a relative XDG_DATA_HOME is to be ignored.
    """
    if given := environment.get("JOBSERVICE_DATA_DIR"):
        return Path(given)
    data_home = Path(environment.get("XDG_DATA_HOME", ""))
    if not data_home.is_absolute():
        data_home = Path.home() / ".local" / "share"
    return data_home / "jobservice"


def default_worker_dir(environment: Mapping[str, str] = _ENVIRONMENT) -> Path:
    """JOBSERVICE_WORKER_DATA_DIR, else the default data directory with `-worker` behind its name."""
    if given := environment.get("JOBSERVICE_WORKER_DATA_DIR"):
        return Path(given)
    server = default_data_dir(environment)
    return server.with_name(f"{server.name}-worker")


def _checked(address: str) -> str:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").replace("//", "", 1)
        if path.startswith("/"):
            return f"unix:{path}"
    elif (match := _HOST_PORT.match(address)) and 0 < int(match[2]) < 65_536:
        return address
    raise InvalidRequest([Violation("address", f"{_WHAT}; got {address!r}", "ADDRESS")])
