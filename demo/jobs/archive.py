"""Archives and compresses the Python standard library: archive.py TARGET.tar.gz.

Reports progress to the file that $JOBSERVICE_PROGRESS names, one line for each per cent. The archive
gets its name only when it is whole.
"""

import hashlib
import os
import sys
import sysconfig
import tarfile
from pathlib import Path


def main() -> None:
    target = Path(sys.argv[1])
    library = Path(sysconfig.get_path("stdlib"))
    sources = sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)
    total_bytes = sum(path.stat().st_size for path in sources)
    print(f"archiving {len(sources)} files, {total_bytes:,} bytes, of {library}", flush=True)

    done_bytes, reported = 0, -1
    partial = target.with_suffix(".partial")
    with (
        Path(os.environ["JOBSERVICE_PROGRESS"]).open("a", buffering=1) as progress,
        tarfile.open(partial, "w:gz", compresslevel=9) as archive,
    ):
        for path in sources:
            name = path.relative_to(library)
            archive.add(path, arcname=name)
            done_bytes += path.stat().st_size
            percent = done_bytes * 100 // total_bytes
            if percent > reported:
                progress.write(f"{percent} compressing {name.parts[0]}\n")
                reported = percent

    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    target.with_suffix(".sha256").write_text(f"{digest}  {target.name}\n")
    partial.rename(target)
    size = target.stat().st_size
    print(f"wrote {target.name}: {size:,} bytes, {100 * size / total_bytes:.0f} % of the sources")
    print(f"sha256 {digest}")


main()
