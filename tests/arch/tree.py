"""What the architecture tests read: the files of the tree, its documents and its Python."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "jobservice"
GENERATED = PACKAGE / "wire" / "_gen"


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that git knows and that exists."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return tuple(path for path in paths if path.is_file())


def texts() -> Iterator[tuple[Path, str]]:
    """Every tracked file that is text and was not generated."""
    for path in tracked_files():
        if GENERATED in path.parents or path.is_relative_to(ROOT / "proto" / "vendor"):
            continue
        try:
            yield path, path.read_text()
        except UnicodeDecodeError:
            continue


def python_files(*folders: str) -> list[Path]:
    """Every Python file below these folders of the tree, generated ones left out."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if GENERATED not in path.parents]


def modules() -> list[Path]:
    """Every module of the package, below `src/jobservice`; folders are named by what is in them."""
    found = [path.relative_to(PACKAGE) for path in python_files("src")]
    return [path for path in found if path.name != "__init__.py" or len(path.parts) == 1]


def parse(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(), filename=str(path))


def documents() -> list[Path]:
    """Every Markdown file that people read."""
    return [path for path in tracked_files() if path.suffix == ".md"]


def loaded_modules(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after `statement`, beyond what it loads by itself."""
    program = (
        f"import sys; before = set(sys.modules); {statement}; "
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return set(ran.stdout.split())


def words(identifier: str) -> list[str]:
    """The words of a name in any case: `WatchJobs`, `watch_jobs` and `WATCH_JOBS` are two each."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)]
