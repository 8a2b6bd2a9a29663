"""Every dependency has its line of reason in ARCHITECTURE.md."""

import re
import tomllib

from tests.arch.tree import ROOT

ROW = re.compile(r"^\| `([\w-]+)` \| \S.+ \|$", re.MULTILINE)
NAME = re.compile(r"^[\w-]+")


def test_each_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    text = (ROOT / "ARCHITECTURE.md").read_text()
    _, _, section = text.partition("## Dependencies")
    names = {match[0] for each in wanted if (match := NAME.match(each))}
    assert set(ROW.findall(section.partition("\n## ")[0])) == names
