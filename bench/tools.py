"""What the measurements need besides Python: a C compiler and h2load."""

import os
import shutil
import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
H2LOAD_PACKAGE = "nghttp2-client"


def require_h2load() -> str:
    """The path of h2load; installs Debian's package where that is possible.

    Raises:
        SystemExit: it is missing, and says what to do.
    """
    found = shutil.which("h2load")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quietly = ["apt-get", "--quiet=2"]
        subprocess.run([*quietly, "update"], check=False)
        install = [*quietly, "install", "--yes", "--no-install-recommends", H2LOAD_PACKAGE]
        subprocess.run(
            install, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        found = shutil.which("h2load")
    if found is None:
        raise SystemExit(
            f"The bench loads the service with h2load. Please install it: Debian's package is "
            f"{H2LOAD_PACKAGE} (as root: apt-get install {H2LOAD_PACKAGE})."
        )
    return found


def build(name: str, directory: Path) -> str:
    """Compile one of `bench/programs`; returns the path of the program.

    Raises:
        SystemExit: there is no C compiler.
    """
    program = directory / name
    try:
        subprocess.run(
            ["cc", "-O2", "-Wall", "-o", str(program), str(PROGRAMS / f"{name}.c")], check=True
        )
    except FileNotFoundError:
        raise SystemExit("The bench needs a C compiler as cc; Debian's package is gcc.") from None
    return str(program)
