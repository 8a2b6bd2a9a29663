"""Page tokens: where the next page of one query begins.

A token is the store's cursor with a digest of the query that it belongs to. The digest keeps a
token from being used with other filters, another RPC or another tenant, where it would skip or
repeat jobs (AIP-158: everything but the page size must be the same). It is no secret: what a caller
may see is decided by the tenant in the query, never by a token.
"""

import base64
import binascii
import hashlib

from google.protobuf.message import Message

from jobservice.errors import PageTokenInvalid

PAGE_DEFAULT, PAGE_MAX = 50, 1000
"""AIP-158: 0 is the default, and more than the maximum is the maximum."""
_DIGEST_BYTES = 12
_NOT_OF_THE_QUERY = ("page_size", "page_token", "view")


def page_limit(page_size: int) -> int:
    """How many jobs a page may have; below zero is refused by the rules of the API."""
    return min(page_size or PAGE_DEFAULT, PAGE_MAX)


def encode(request: Message, tenant: str, cursor: str | None) -> str:
    """The token of the page behind `cursor`; empty when there is none."""
    if cursor is None:
        return ""
    sealed = _digest(request, tenant) + cursor.encode()
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")


def decode(request: Message, tenant: str) -> str | None:
    """The cursor in the request's `page_token`; None for the first page.

    Raises:
        PageTokenInvalid: the token is not one of this query of this tenant.
    """
    token: str = request.page_token  # type: ignore[attr-defined]  # every request for a page has it
    if not token:
        return None
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        cursor = sealed[_DIGEST_BYTES:].decode()
    except (ValueError, binascii.Error):
        raise PageTokenInvalid from None
    if sealed[:_DIGEST_BYTES] != _digest(request, tenant):
        raise PageTokenInvalid
    return cursor


def _digest(request: Message, tenant: str) -> bytes:
    query = type(request)()
    query.CopyFrom(request)
    for field in _NOT_OF_THE_QUERY:
        if field in query.DESCRIPTOR.fields_by_name:
            query.ClearField(field)
    scope = f"{request.DESCRIPTOR.full_name}\0{tenant}\0".encode()
    body = query.SerializeToString(deterministic=True)
    return hashlib.blake2b(scope + body, digest_size=_DIGEST_BYTES).digest()
