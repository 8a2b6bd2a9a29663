"""The reader of outputs: gaps, links, growth, and its agreement with the runner that writes."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from jobservice.blobs import disk
from jobservice.blobs.disk import GAP, GAP_RECORD, OPEN_END, AttemptFiles
from jobservice.blobs.port import PIECE_BYTES, Piece, Stream
from jobservice.runner import output

JOB = "j" + "0123456789abcdefghijklmnop"


def attempt(root: Path, **files: bytes) -> AttemptFiles:
    made = AttemptFiles(root)
    directory = made.directory(JOB, 1)
    directory.mkdir(parents=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return made


def gaps(*slots: tuple[int, int, int]) -> bytes:
    return b"".join(GAP_RECORD.pack(1, stream, GAP, at, length) for stream, at, length in slots)


def test_reader_and_runner_mean_the_same_format() -> None:
    assert GAP_RECORD.format == output.RECORD.format
    assert (GAP, disk.GAP_SLOTS, OPEN_END) == (output.GAP, output.GAP_SLOTS, output.OPEN)
    assert (Stream.STDOUT, Stream.STDERR) == (output.STDOUT, output.STDERR)


async def test_bytes_come_exactly_and_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(PIECE_BYTES + 100)
    files = attempt(tmp_path, stdout=content)
    first = await files.read(JOB, 1, Stream.STDOUT, 0)
    second = await files.read(JOB, 1, Stream.STDOUT, first.end)
    assert first.data + second.data == content
    assert await files.read(JOB, 1, Stream.STDOUT, second.end) == Piece(len(content))


async def test_what_was_never_written_reads_as_empty(tmp_path: Path) -> None:
    files = attempt(tmp_path, stdout=b"x")
    assert await files.read(JOB, 1, Stream.STDERR, 0) == Piece(0)
    assert await files.read(JOB, 2, Stream.STDOUT, 7) == Piece(7)


async def test_a_gap_is_told_and_never_read_as_zeros(tmp_path: Path) -> None:
    content = b"head" + bytes(96) + b"tail"
    files = attempt(tmp_path, stdout=content, index=gaps((1, 4, 96)))
    head = await files.read(JOB, 1, Stream.STDOUT, 0)
    assert head == Piece(0, b"head")
    assert await files.read(JOB, 1, Stream.STDOUT, 4) == Piece(4, dropped_bytes=96)
    assert await files.read(JOB, 1, Stream.STDOUT, 50) == Piece(50, dropped_bytes=50)
    assert await files.read(JOB, 1, Stream.STDOUT, 100) == Piece(100, b"tail")


async def test_a_gap_of_one_stream_is_none_of_the_other(tmp_path: Path) -> None:
    files = attempt(tmp_path, stderr=b"abcdef", index=gaps((1, 0, 3)))
    assert await files.read(JOB, 1, Stream.STDERR, 0) == Piece(0, b"abcdef")


async def test_behind_a_gap_that_is_not_over_there_is_nothing_yet(tmp_path: Path) -> None:
    files = attempt(tmp_path, stdout=b"ab" + bytes(8), index=gaps((1, 2, OPEN_END)))
    assert await files.read(JOB, 1, Stream.STDOUT, 0) == Piece(0, b"ab")
    assert await files.read(JOB, 1, Stream.STDOUT, 2) == Piece(2)


async def test_no_link_of_a_job_is_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    files = attempt(tmp_path / "root")
    (files.directory(JOB, 1) / "stdout").symlink_to(secret)
    assert await files.read(JOB, 1, Stream.STDOUT, 0) == Piece(0)
    linked = files.directory(JOB, 2)
    linked.symlink_to(tmp_path)
    (tmp_path / "stderr").write_bytes(b"secret")
    assert await files.read(JOB, 2, Stream.STDERR, 0) == Piece(0)


async def test_remove_takes_all_attempts_and_the_empty_shard_but_nothing_behind_links(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    files = attempt(tmp_path / "root", stdout=b"x")
    files.directory(JOB, 2).mkdir()
    (files.directory(JOB, 2) / "work").symlink_to(kept)
    assert await files.remove([(JOB, 3)]) == [True]
    assert list((tmp_path / "root").iterdir()) == []
    assert (kept / "file").exists()


HOSTILE = """
import asyncio, concurrent.futures.thread, os, sys
from pathlib import Path
from jobservice.blobs.disk import AttemptFiles

root, job, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if os.getuid() == 0:
    os.chown(root, 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
files = AttemptFiles(root / "attempts")
work = files.directory(job, 1) / "work"
outside = root / "outside"
for each in (work / "module" / "cache" / "deep", work / "dark", outside):
    each.mkdir(parents=True)
    (each / "file").write_text("x")
(work / "link").symlink_to(outside)
(work / "module" / "link").symlink_to(outside)
outside.chmod(0o500)
(work / "dark").chmod(0)
for each in ("cache/deep", "cache", "."):
    (work / "module" / each).chmod(0o555)
work.chmod(0)
files.directory(job, 1).chmod(0o500)
if how == "remove":
    assert asyncio.run(files.remove([(job, 1)])) == [True]
elif how == "discard":
    asyncio.run(files.discard([(job, 1)]))
else:
    asyncio.run(files.keep_only([]))
assert not list((root / "attempts").iterdir()), "something is left"
assert outside.stat().st_mode & 0o777 == 0o500, "a link was followed"
assert (outside / "file").exists()
outside.chmod(0o700)
"""
"""Not as root, for whom there are no modes."""


@pytest.mark.parametrize("how", ["remove", "discard", "keep_only"])
def test_what_a_job_made_unwritable_goes_too(how: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        ran = subprocess.run(
            [sys.executable, "-c", HOSTILE, root, JOB, how],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    files = attempt(tmp_path)
    place = os.open(files.directory(JOB, 1), os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 100):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    try:
        assert asyncio.run(files.remove([(JOB, 1)])) == [True]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / JOB[1:7]], check=True)  # or pytest cannot


def test_directories_may_go_while_others_are_removed(tmp_path: Path) -> None:
    """A call that was given up goes on in its thread, beside the next one."""
    files, stop = attempt(tmp_path), threading.Event()

    def come_and_go() -> None:
        other = files.directory("j" + "1" * 26, 1)
        while not stop.is_set():
            with contextlib.suppress(OSError):
                other.mkdir(parents=True)
                other.rmdir()
                other.parent.rmdir()

    busy = threading.Thread(target=come_and_go)
    busy.start()
    try:
        for _ in range(500):
            asyncio.run(files.keep_only([(JOB, 1)]))
    finally:
        stop.set()
        busy.join()
    assert files.directory(JOB, 1).is_dir()
