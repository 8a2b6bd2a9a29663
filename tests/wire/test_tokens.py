"""A page token goes on where its page ended, in its own query and in no other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobservice.errors import PageTokenInvalid
from jobservice.wire import messages, tokens

pb: Any = messages


def request(token: str = "", **fields: Any) -> Any:
    return pb.ListJobsRequest(page_token=token, **fields)


@given(st.text(min_size=1))
def test_a_token_gives_its_cursor_back(cursor: str) -> None:
    token = tokens.encode(request(name="a"), "default", cursor)
    assert tokens.decode(request(token, name="a"), "default") == cursor


def test_no_cursor_is_no_token_and_back() -> None:
    assert tokens.encode(request(), "default", None) == ""
    assert tokens.decode(request(), "default") is None


def test_page_size_and_view_may_change_between_pages() -> None:
    token = tokens.encode(request(name="a", page_size=10, view=1), "default", "c")
    assert tokens.decode(request(token, name="a", page_size=99, view=2), "default") == "c"


def test_a_token_of_another_query_is_refused() -> None:
    token = tokens.encode(request(name="a"), "default", "c")
    for other in (request(token, name="b"), request(token), request(token, name="a", queue="q")):
        with pytest.raises(PageTokenInvalid):
            tokens.decode(other, "default")


def test_a_token_of_another_tenant_or_rpc_is_refused() -> None:
    token = tokens.encode(request(), "default", "c")
    with pytest.raises(PageTokenInvalid):
        tokens.decode(request(token), "other")
    with pytest.raises(PageTokenInvalid):
        tokens.decode(pb.ListActiveJobsRequest(page_token=token), "default")


@given(st.text(min_size=1))
def test_a_forged_token_is_refused(token: str) -> None:
    with pytest.raises(PageTokenInvalid):
        tokens.decode(request(token), "default")


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (1000, 1000), (5000, 1000)])
def test_page_sizes_are_those_of_aip_158(asked: int, given_: int) -> None:
    assert tokens.page_limit(asked) == given_
