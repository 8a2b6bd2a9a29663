"""`make bench`: the speed of the service beside what this machine can do; see bench/README.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.main import main

if __name__ == "__main__":
    raise SystemExit(main())
