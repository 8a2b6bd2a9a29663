"""TLS of the TCP listener: who connects shows a certificate, and files that change are read anew.

A handshake looks whether the files are other ones than before, so a certificate is replaced by
writing the new files; connections that are open keep the old one. Files that do not belong together, as
between two writes, are left alone until they do.
"""

import ssl
from pathlib import Path

import grpc

from jobservice.config import Settings
from jobservice.errors import SetupError
from jobservice.telemetry import logger

_Marks = list[tuple[int, int, int]]


class Certificates:
    """The certificate and key of the server, and the authorities of its clients."""

    def __init__(self, cert: Path, key: Path, ca: Path) -> None:
        self._cert, self._key, self._ca = cert, key, ca
        self._log = logger("tls")
        self._marks = self._look()
        self._current = self._read()
        self._is_wrong = False

    def credentials(self) -> grpc.ServerCredentials:
        """For a port; a client without a certificate of the authorities is not let in."""
        return grpc.dynamic_ssl_server_credentials(
            self._current, self._fetch, require_client_authentication=True
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration:
        """What the next handshake goes by; called in a thread of gRPC."""
        try:
            marks = self._look()
            if marks != self._marks:
                self._current = self._read()
                self._marks = marks
                self._is_wrong = False
                self._log.info("certificates_read")
        except SetupError as error:
            if not self._is_wrong:
                self._log.warning("certificates_not_read", error=error.message)
            self._is_wrong = True
        return self._current

    def _look(self) -> _Marks:
        """What tells files from others that take their place."""
        try:
            found = [path.stat() for path in (self._cert, self._key, self._ca)]
        except OSError as error:
            raise SetupError(f"{error.filename} cannot be read: {error.strerror}.") from error
        return [(each.st_ino, each.st_mtime_ns, each.st_size) for each in found]

    def _read(self) -> grpc.ServerCertificateConfiguration:
        """The files, which belong together.

        Raises:
            SetupError: one cannot be read, or they do not belong together.
        """
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._cert, self._key)
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(self._ca)
            pair = self._key.read_bytes(), self._cert.read_bytes()
            authorities = self._ca.read_bytes()
        except ssl.SSLError as error:
            raise SetupError(
                f"The certificate {self._cert}, its key {self._key} and the authorities "
                f"{self._ca} are not PEM files that belong together: {error.reason}."
            ) from error
        except OSError as error:
            raise SetupError(f"A file of TLS cannot be read: {error.strerror}.") from error
        return grpc.ssl_server_certificate_configuration([pair], authorities)


def certificates(settings: Settings) -> Certificates | None:
    """What the settings name; None where TCP goes without TLS."""
    cert, key, ca = settings.tls_cert, settings.tls_key, settings.tls_ca
    if cert is None or key is None or ca is None:
        return None
    return Certificates(cert, key, ca)
