"""Who may import whom, and what must stay light."""

import subprocess
import sys
from pathlib import Path

from tests.arch import tree


def test_the_import_contracts_hold() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    ran = subprocess.run(
        [program, "--no-logo", "--no-cache"],
        cwd=tree.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_part_of_the_package_is_in_the_contract_of_layers() -> None:
    contract = (tree.ROOT / "pyproject.toml").read_text()
    layers = contract[contract.index("[tool.importlinter]") :]
    parts = {path.parts[0].removesuffix(".py") for path in tree.modules()}
    missing = {
        part for part in parts - {"__init__", "__main__"} if f"jobservice.{part}" not in layers
    }
    assert not missing


def test_the_runner_loads_the_standard_library_and_itself_alone() -> None:
    runner = [path for path in tree.modules() if path.parts[0] == "runner"]
    names = [".".join(["jobservice", *path.with_suffix("").parts]) for path in runner]
    statement = "import " + ", ".join(name.removesuffix(".__init__") for name in names)
    loaded = tree.loaded_modules(statement)
    foreign = {
        name
        for name in loaded
        if name.partition(".")[0] not in sys.stdlib_module_names
        and name != "jobservice"
        and not name.startswith("jobservice.runner")
    }
    assert not foreign
    assert not {"asyncio.subprocess", "multiprocessing", "subprocess"} & loaded


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = tree.loaded_modules("import jobservice")
    heavy = {"grpc", "google", "asyncio", "click", "rich", "apsw", "pydantic", "structlog"}
    assert not heavy & {name.partition(".")[0] for name in loaded}


def test_the_sdk_loads_nothing_of_the_server() -> None:
    loaded = tree.loaded_modules("from jobservice import Client")
    server = {"apsw", "pydantic", "structlog", "protovalidate", "psutil", "uvloop", "click", "rich"}
    assert not server & {name.partition(".")[0] for name in loaded}
    assert not [
        name for name in loaded if name.startswith(("jobservice.server", "jobservice.engine"))
    ]
