"""Verifies an archive against its checksum: verify.py TARGET.tar.gz. Fails while it is not there."""

import hashlib
import sys
import tarfile
from pathlib import Path


def main() -> None:
    target = Path(sys.argv[1])
    if not target.exists():
        sys.exit(f"{target.name} is not there yet")
    expected = target.with_suffix(".sha256").read_text().split()[0]
    if hashlib.sha256(target.read_bytes()).hexdigest() != expected:
        sys.exit(f"{target.name} is not what its checksum says")
    with tarfile.open(target) as archive:
        count = sum(1 for _ in archive)
    print(f"{target.name} is whole: {count} files, checksum {expected[:16]}…")


main()
