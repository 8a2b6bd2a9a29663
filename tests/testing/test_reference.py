"""docs/reference/testing.md says what the test kit is."""

import dataclasses
import inspect
import re

from jobservice.testing.virtual import Behaviour, VirtualService
from tests.arch import tree

TEXT = (tree.ROOT / "docs" / "reference" / "testing.md").read_text()


def names(head: str) -> list[str]:
    """The first column of the table with this head."""
    below = TEXT[TEXT.index(f"| {head} |") :]
    return re.findall(r"^\| `(\w+)` \|", below.split("\n\n")[0], flags=re.MULTILINE)


def test_every_argument_is_documented() -> None:
    assert names("argument") == list(inspect.signature(VirtualService).parameters)


def test_every_member_is_documented() -> None:
    members = {name for name in vars(VirtualService) if name[0] != "_"}
    assert set(names("member")) == members | {"client", "steps"}


def test_every_field_of_a_behaviour_is_documented() -> None:
    assert names("field") == [field.name for field in dataclasses.fields(Behaviour)]
