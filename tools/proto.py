"""Regenerates `src/jobservice/wire/_gen/` from `proto/`, or checks that it is what `proto/` says.

    .venv/bin/python tools/proto.py             regenerate
    .venv/bin/python tools/proto.py --check     lint, format, breaking changes, diff; writes nothing
    .venv/bin/python tools/proto.py --release   make today's API the one that `--check` protects

What is generated:

- `_gen/v1/`: messages and stubs, typed. The rules of `buf.validate` are taken out of them
  before: two copies of `validate.proto` in one process clash, and clients need none.
- `_gen/rules.binpb`: every descriptor with its rules, for the server (`wire/validate.py`).

The compiler is older than the runtime of this tree on purpose. Generated code runs with the
protobuf it was made for and with the next major version (protobuf.dev, "Cross-Version Runtime
Guarantee"): code of 6.31 serves users of 6.x and 7.x. Its wheel cannot share an environment with
protobuf 7, so it is installed apart, in `build/proto-tools/`, from `tools/proto-requirements.txt`.
"""

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GENERATED = ROOT / "src/jobservice/wire/_gen"
RELEASED = PROTO / "released/jobservice.v1.binpb"
COMPILER = ROOT / "build/proto-tools"
REQUIREMENTS = ROOT / "tools/proto-requirements.txt"
PACKAGE_PATH = "jobservice/v1"
PYTHON_PACKAGE = "jobservice.wire._gen.v1"
RULES_FILE = "buf/validate/validate.proto"
RULES_OPTION = 1159
"""The number of the extension `(buf.validate.field)` and its siblings on other options."""


def main() -> int:
    """Do what the command line asks; the exit code."""
    parser = argparse.ArgumentParser(description="Generate the Python code of the wire API.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="only compare, and lint")
    mode.add_argument("--release", action="store_true", help="replace the released image")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        image = compile_image(work)
        if arguments.check:
            return check(image, work)
        if arguments.release:
            RELEASED.parent.mkdir(exist_ok=True)
            RELEASED.write_bytes(without_source(image))
            return 0
        generate(image, work)
        replace_tree(work / "out", GENERATED)
    return 0


# --- compile ----------------------------------------------------------------------------------


def compile_image(work: Path) -> descriptor_pb2.FileDescriptorSet:
    """Every file of the API and what it imports, with source info."""
    target = work / "image.binpb"
    protoc(
        f"-I{PROTO}", f"-I{PROTO / 'vendor'}",
        f"-I{site_packages()}", f"-I{COMPILER / 'grpc_tools/_proto'}",
        "--include_imports", "--include_source_info", f"--descriptor_set_out={target}",
        *(str(path) for path in sorted((PROTO / PACKAGE_PATH).glob("*.proto"))),
    )  # fmt: skip
    return descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())


def generate(image: descriptor_pb2.FileDescriptorSet, work: Path) -> None:
    """Write the whole generated tree to `work/out`."""
    stripped, raw, out = work / "stripped.binpb", work / "raw", work / "out"
    stripped.write_bytes(without_rules(image).SerializeToString(deterministic=True))
    raw.mkdir()
    ours = [file for file in image.file if file.name.startswith(PACKAGE_PATH)]
    protoc(
        f"--descriptor_set_in={stripped}",
        f"--python_out={raw}", f"--mypy_out=quiet:{raw}",
        *(file.name for file in ours),
    )  # fmt: skip
    protoc(
        f"--descriptor_set_in={stripped}",
        f"--grpc_python_out={raw}", f"--mypy_grpc_out=quiet:{raw}",
        *(file.name for file in ours if file.service),
    )  # fmt: skip
    (out / "v1").mkdir(parents=True)
    for path in sorted((raw / PACKAGE_PATH).iterdir()):
        (out / "v1" / path.name).write_text(as_package_module(path.read_text()))
    for package in (out, out / "v1"):
        (package / "__init__.py").write_text("")
    (out / "rules.binpb").write_bytes(without_source(image))


def protoc(*arguments: str) -> None:
    """Run the pinned compiler, which is installed on the first use."""
    install_compiler()
    scripts = sysconfig.get_path("scripts")
    environment = os.environ | {
        "PYTHONPATH": str(COMPILER),
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
    }
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    subprocess.run(command, env=environment, check=True)


def install_compiler() -> None:
    """Have the pinned compiler in `build/proto-tools/`."""
    stamp = COMPILER / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(COMPILER, ignore_errors=True)
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
            "--disable-pip-version-check", "--only-binary", ":all:",
            "--target", str(COMPILER), "--requirement", str(REQUIREMENTS),
        ],
        check=True,
    )  # fmt: skip
    stamp.write_text(wanted)


def site_packages() -> str:
    """Where googleapis-common-protos keeps the texts of `google/api/*.proto`."""
    return sysconfig.get_path("purelib")


# --- descriptors ------------------------------------------------------------------------------


def without_source(image: descriptor_pb2.FileDescriptorSet) -> bytes:
    """The image without comments and positions: a tenth of the size."""
    small = descriptor_pb2.FileDescriptorSet()
    small.CopyFrom(image)
    for file in small.file:
        file.ClearField("source_code_info")
    return small.SerializeToString(deterministic=True)


def without_rules(
    image: descriptor_pb2.FileDescriptorSet,
) -> descriptor_pb2.FileDescriptorSet:
    """The image with neither `validate.proto` nor any option that it defines."""
    stripped = descriptor_pb2.FileDescriptorSet()
    for file in image.file:
        if file.name != RULES_FILE:
            stripped.file.append(strip_file(file))
    return stripped


def strip_file(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """One file without rules and without the import of their definition."""
    result = descriptor_pb2.FileDescriptorProto()
    result.CopyFrom(file)
    if RULES_FILE in result.dependency:
        result.dependency.remove(RULES_FILE)
    for message in result.message_type:
        strip_message(message)
    return result


def strip_message(message: descriptor_pb2.DescriptorProto) -> None:
    """Drop the rules of a message, its fields, oneofs and nested messages, in place."""
    strip_options(message)
    for field in message.field:
        strip_options(field)
    for oneof in message.oneof_decl:
        strip_options(oneof)
    for nested in message.nested_type:
        strip_message(nested)


def strip_options(
    owner: descriptor_pb2.DescriptorProto
    | descriptor_pb2.FieldDescriptorProto
    | descriptor_pb2.OneofDescriptorProto,
) -> None:
    """Drop the rules from the options of one descriptor.

    This process does not know the extension, so it lies among the unknown fields; they cannot be
    removed one by one through the public API, so the bytes are filtered.
    """
    if not owner.HasField("options"):
        return
    kept = without_field(owner.options.SerializeToString(), RULES_OPTION)
    owner.options.ParseFromString(kept)
    if not kept:
        owner.ClearField("options")


def without_field(data: bytes, number: int) -> bytes:
    """A serialised message without the fields of one number (protobuf.dev, "Encoding")."""
    kept, position = bytearray(), 0
    while position < len(data):
        begin = position
        tag, position = read_varint(data, position)
        position = skip_value(data, position, tag & 7)
        if tag >> 3 != number:
            kept += data[begin:position]
    return bytes(kept)


def skip_value(data: bytes, position: int, wire_type: int) -> int:
    """Where the value of a field ends that begins at `position`."""
    if wire_type == 0:
        return read_varint(data, position)[1]
    if wire_type == 2:
        length, position = read_varint(data, position)
        return position + length
    return position + {1: 8, 5: 4}[wire_type]


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length number at `position`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


# --- Python -----------------------------------------------------------------------------------


def as_package_module(text: str) -> str:
    """Generated code whose imports and module names are those of our package.

    protoc takes the path of a proto file for the Python module (`jobservice.v1`); ours is deeper.
    """
    text = re.sub(
        r"^from jobservice\.v1 import ", f"from {PYTHON_PACKAGE} import ", text, flags=re.MULTILINE
    )
    return re.sub(r"'jobservice\.v1\.(\w+_pb2)'", rf"'{PYTHON_PACKAGE}.\1'", text)


def replace_tree(new: Path, old: Path) -> None:
    """Make `old` hold exactly the files of `new`."""
    for relative in tree(old).keys() - tree(new).keys():
        (old / relative).unlink()
    for relative, data in tree(new).items():
        (old / relative).parent.mkdir(parents=True, exist_ok=True)
        (old / relative).write_bytes(data)


def tree(root: Path) -> dict[Path, bytes]:
    """Every file below a directory, by its relative path."""
    return {
        path.relative_to(root): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


# --- check ------------------------------------------------------------------------------------


def check(image: descriptor_pb2.FileDescriptorSet, work: Path) -> int:
    """Lint, format, compare with the released API and the generated tree; the exit code."""
    generate(image, work)
    path = str(work / "image.binpb")
    config = ["--config", str(ROOT / "buf.yaml")]
    only = ["--path", PACKAGE_PATH]
    results = [
        buf("lint", path, *only, *config),
        buf("format", "proto", "--path", f"proto/{PACKAGE_PATH}", "--diff", "--exit-code"),
        buf("breaking", path, "--against", str(RELEASED), *only, *config),
        diff_trees(tree(GENERATED), tree(work / "out")),
    ]
    return 0 if all(results) else 1


def buf(*arguments: str) -> bool:
    """Run buf; whether it was content."""
    command = Path(sysconfig.get_path("scripts")) / "buf"
    return subprocess.run([command, *arguments], cwd=ROOT, check=False).returncode == 0


def diff_trees(committed: dict[Path, bytes], fresh: dict[Path, bytes]) -> bool:
    """Whether both hold the same; prints the differences."""
    for relative in sorted(committed.keys() | fresh.keys()):
        old, new = committed.get(relative, b""), fresh.get(relative, b"")
        if old != new:
            print_difference(relative, old, new)
    if committed != fresh:
        print("The generated code is not that of proto/: run `make proto`.", file=sys.stderr)
    return committed == fresh


def print_difference(relative: Path, old: bytes, new: bytes) -> None:
    """Show how one generated file differs."""
    if relative.suffix == ".binpb":
        print(f"{relative} differs")
        return
    lines = difflib.unified_diff(
        old.decode().splitlines(), new.decode().splitlines(),
        f"committed/{relative}", f"generated/{relative}", lineterm="",
    )  # fmt: skip
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
