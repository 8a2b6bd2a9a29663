"""Indexes the sources of the Python standard library: index.py INDEX.sqlite.

Every function and class becomes a row of a full-text table, with its docstring. Searched by search.py.
"""

import ast
import os
import sqlite3
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

TABLE = "CREATE VIRTUAL TABLE definition USING fts5(name, doc, file UNINDEXED, line UNINDEXED)"
INSERT = "INSERT INTO definition VALUES (?, ?, ?, ?)"


def definitions(path: Path) -> Iterator[tuple[str, int, str]]:
    """Name, line and docstring of each function and class in a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # some files of the library are meant to fail
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno, ast.get_docstring(node) or ""


def main() -> None:
    target = Path(sys.argv[1])
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "test", "tests", "idlelib"}
    sources = sorted(p for p in library.rglob("*.py") if not skipped & set(p.parts))
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    database = sqlite3.connect(partial)
    database.execute(TABLE)
    count = 0
    with Path(os.environ["JOBSERVICE_PROGRESS"]).open("a", buffering=1) as progress:
        for number, path in enumerate(sources, 1):
            name = str(path.relative_to(library))
            for defined, line, doc in definitions(path):
                database.execute(INSERT, (defined, doc, name, line))
                count += 1
            if number % 25 == 0:
                progress.write(f"{number * 100 // len(sources)} parsing {name}\n")
    database.commit()
    database.close()
    partial.rename(target)
    print(f"indexed {count:,} definitions of {len(sources)} files: {target.stat().st_size:,} bytes")


main()
