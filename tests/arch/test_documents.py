"""Documents that can be wrong are held to what they speak of."""

import inspect
import re
from pathlib import Path

import pytest

import jobservice.errors
from jobservice.config import HostSettings, Settings, WorkerSettings
from jobservice.model.filter import FIELDS
from jobservice.model.lifecycle import TRANSITIONS, State
from tests.arch import tree

README = tree.ROOT / "README.md"
ARCHITECTURE = tree.ROOT / "ARCHITECTURE.md"
PROTO = tree.ROOT / "proto" / "jobservice" / "v1"
SERVICES = sorted(PROTO.glob("*_service.proto"))


def without_code(text: str) -> str:
    """Markdown without its fenced blocks and code spans."""
    return re.sub(
        r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )


def anchors(path: Path) -> set[str]:
    """The anchors that the headings of a document make, as forges build them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.*?) *$", text, flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", tree.documents(), ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(target)
    assert not broken


# --- README -----------------------------------------------------------------------------------


def rpcs_of(service: Path) -> list[tuple[str, str]]:
    """Each RPC with the first sentence of its comment, in order."""
    found = []
    comment: list[str] = []
    for line in service.read_text().splitlines():
        text = line.strip()
        if text.startswith("//"):
            comment.append(text.removeprefix("//").strip())
            continue
        if rpc := re.match(r"rpc (\w+)\(", text):
            sentence = re.match(r".*?\.(?= |$)", " ".join(comment))
            assert sentence, f"{rpc[1]} has no comment"
            found.append((rpc[1], sentence.group()))
        comment = []
    return found


def test_the_tables_of_rpcs_are_those_of_the_services() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|$", README.read_text(), flags=re.MULTILINE)
    assert rows == [rpc for service in SERVICES for rpc in rpcs_of(service)]


# --- ARCHITECTURE -----------------------------------------------------------------------------


def the_map() -> set[str]:
    """The files that the map of ARCHITECTURE.md names, below `src/jobservice`."""
    block = re.search(
        r"^```text\nsrc/jobservice/\n(.*?)^```", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert block, "ARCHITECTURE.md has no map"
    folders: list[tuple[int, str]] = []
    files = set()
    for line in block[1].splitlines():
        indent = len(line) - len(line.lstrip())
        name = line.split()[0]
        while folders and folders[-1][0] >= indent:
            folders.pop()
        path = "/".join([*(folder for _, folder in folders), name.rstrip("/")])
        if name.endswith("/"):
            folders.append((indent, name.rstrip("/")))
        else:
            files.add(path)
    return files


def test_the_map_names_every_module_and_nothing_else() -> None:
    mapped, real = the_map(), {str(path) for path in tree.modules()}
    assert {"not on the map": real - mapped, "gone": mapped - real} == {
        "not on the map": set(),
        "gone": set(),
    }


# --- reference --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Settings, WorkerSettings])
def test_every_setting_is_documented_as_it_is(kind: type[HostSettings]) -> None:
    text = (tree.ROOT / "docs" / "reference" / "settings.md").read_text()
    before, _, behind = text.partition("\n## ")
    prefix = kind.model_config["env_prefix"]
    row = rf"^\| `{prefix}(\w+)` \| (.*?) \| (.*?) \|$"
    rows = re.findall(row, before if kind is Settings else behind, flags=re.MULTILINE)
    documented = {name.lower(): (default, meaning) for name, default, meaning in rows}
    expected = {}
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else f"`{field.default}`"
        expected[name] = (default.replace("`None`", "none"), field.description)
    assert documented == expected


def test_every_field_of_a_filter_is_documented_in_order() -> None:
    text = (tree.ROOT / "docs" / "reference" / "filters.md").read_text()
    table = text[text.index("| field |") : text.index("A value with spaces")]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == list(FIELDS)


def error_classes() -> list[type[jobservice.errors.JobServiceError]]:
    """Every class of the tree of errors."""
    return [
        value
        for value in vars(jobservice.errors).values()
        if inspect.isclass(value) and issubclass(value, jobservice.errors.JobServiceError)
    ]


@pytest.mark.parametrize("error", error_classes())
def test_every_error_has_a_section(error: type[jobservice.errors.JobServiceError]) -> None:
    text = (tree.ROOT / "docs" / "reference" / "errors.md").read_text()
    assert re.search(rf"^#+ `?{error.__name__}`?$", text, re.MULTILINE)


def test_the_moves_of_every_state_are_those_of_the_table() -> None:
    text = (tree.ROOT / "docs" / "reference" / "lifecycle.md").read_text()
    rows = re.findall(r"^\| `([A-Z]+)` \| [^|]+ \| (.*?) \|$", text, flags=re.MULTILINE)
    documented = {state: moves for state, moves in rows if state in State.__members__}
    expected = {
        state.name: "; ".join(
            f"{trigger.value} → {target.name}"
            for (source, trigger), target in TRANSITIONS.items()
            if source is state
        )
        for state in State
    }
    assert documented == expected
