"""The demo shows what it says."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.arch import tree


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_ends_well_and_leaves_its_results() -> None:
    with tempfile.TemporaryDirectory(prefix="js-") as directory:
        data = Path(directory) / "demo"
        ran = subprocess.run(
            [sys.executable, "-m", "demo", data],
            cwd=tree.ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr
        made = {path.name for path in (data / "results").iterdir()}
        assert {"library.tar.gz", "library.sqlite", "words.txt"} <= made
