"""The commands of the tree are those that its documents name."""

import re
import subprocess
import tomllib

from tests.arch import tree

MAKEFILE = tree.ROOT / "Makefile"


def targets() -> list[str]:
    """The targets that the Makefile declares for people."""
    declared = re.search(r"^\.PHONY: (.*)$", MAKEFILE.read_text(), re.MULTILINE)
    assert declared
    return declared[1].split()


def test_make_help_lists_every_command() -> None:
    ran = subprocess.run(
        ["make", "help"], cwd=tree.ROOT, capture_output=True, text=True, check=True
    )
    listed = re.findall(r"^make (\w+) +\S.*$", ran.stdout, re.MULTILINE)
    assert listed == targets()
    assert len(listed) <= 15


def test_every_command_has_a_rule() -> None:
    rules = set(re.findall(r"^(\w+):", MAKEFILE.read_text(), re.MULTILINE))
    assert set(targets()) <= rules


def test_contributing_names_every_command() -> None:
    text = (tree.ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"`make (\w+)`", text)) == set(targets())


def test_documents_name_no_other_command() -> None:
    named = {
        name for path in tree.documents() for name in re.findall(r"\bmake (\w+)`", path.read_text())
    }
    assert named <= set(targets())


def test_the_pinned_build_back_end_is_the_declared_one() -> None:
    project = tomllib.loads((tree.ROOT / "pyproject.toml").read_text())
    declared = project["build-system"]["requires"]
    assert set(declared) <= set(project["dependency-groups"]["build"])
    pinned = (tree.ROOT / "requirements" / "build.txt").read_text()
    assert all(f"{requirement} \\" in pinned for requirement in declared)


def test_every_requirement_is_pinned_with_hashes() -> None:
    for path in sorted((tree.ROOT / "requirements").glob("*.txt")):
        entries = re.split(r"\n(?=\S)", path.read_text())
        for entry in entries:
            if not entry.startswith("#"):
                assert re.match(r"[\w.\-\[\]]+==\S+ .*--hash=sha256:", entry, re.DOTALL), entry


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = tree.ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert re.search(r"^make test\b", script.read_text(), re.MULTILINE)
    assert "make test" in (tree.ROOT / "README.md").read_text()
