"""Searches an index that index.py made: search.py INDEX.sqlite WORDS."""

import sqlite3
import sys

QUERY = """
    SELECT name, file, line, doc FROM definition WHERE definition MATCH ? ORDER BY rank LIMIT 5
"""


def main() -> None:
    path, *words = sys.argv[1:]
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    hits = database.execute(QUERY, [" ".join(words)]).fetchall()
    if not hits:
        sys.exit(f"nothing is documented with: {' '.join(words)}")
    for name, file, line, doc in hits:
        print(f"{file}:{line}  {name}: {doc.partition(chr(10))[0]}")


main()
