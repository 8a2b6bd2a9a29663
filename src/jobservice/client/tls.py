"""The connection to a service, encrypted where that is asked for."""

import os
from pathlib import Path
from typing import Any

import grpc

from jobservice.client.address import Tls
from jobservice.errors import SetupError


def channel(address: str, tls: Tls | None, options: Any) -> grpc.Channel:
    """A channel to an address; a Unix socket never needs TLS.

    Raises:
        SetupError: a file of `tls` cannot be read.
    """
    if tls is None or address.startswith("unix:"):
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials(tls), options=options)


def credentials(tls: Tls) -> grpc.ChannelCredentials:
    """What shows who the service is, and who we are."""
    cert, key = (None if path is None else _read(path) for path in (tls.cert, tls.key))
    return grpc.ssl_channel_credentials(_read(tls.ca), key, cert)


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SetupError(f"{os.fspath(path)} cannot be read: {error.strerror}.") from error
