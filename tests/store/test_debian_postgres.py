"""The server of Debian's PostgreSQL that the tests can be run with."""

from pathlib import Path

import pytest

from tests.debian_postgres import find_programs


def test_who_may_not_install_it_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="apt-get install postgresql-15"):
        find_programs(tmp_path, is_root=False)
