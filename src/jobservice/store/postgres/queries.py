"""The statements of the PostgreSQL store by name, read once from the `.sql` files beside this."""

from collections.abc import Mapping
from pathlib import Path

from jobservice.store.sqlfile import Query, load

FILES = tuple(sorted(Path(__file__).parent.glob("*.sql")))
QUERIES: Mapping[str, Query] = load(*FILES)
