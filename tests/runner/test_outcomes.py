"""How an attempt ends, exactly; and what its process is given."""

import base64
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import SHELL_PATH, Connection, Host, Message

CATCHABLE = sorted(
    number for number in signal.valid_signals()
    if number not in {signal.SIGSTOP, signal.SIGCONT, signal.SIGCHLD, signal.SIGURG,
                      signal.SIGWINCH, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    and number < 32
)  # fmt: skip
"""Every signal whose default is to end the process."""


@pytest.fixture
def worker(host: Host) -> Connection:
    return host.begin()


def end_by(worker: Connection, order: Message) -> Message:
    worker.start(order)
    return worker.end_of(order["key"])


def test_every_exit_code_is_told(host: Host, worker: Connection) -> None:
    codes = (0, 1, 2, 126, 127, 128, 143, 254, 255)
    worker.start(*(host.order(f"e{code}", f"exit {code}") for code in codes))
    for code in codes:
        end = worker.end_of(f"e{code}")
        assert (end["cause"], end["exit_code"], end["signal"]) == ("exit", code, None)
        assert end["started_at_ns"] <= end["ended_at_ns"]
        assert end["max_rss_bytes"] > 100_000
        assert 0 <= end["cpu_s"] < 1


def test_every_signal_that_ends_a_process_is_told(host: Host, worker: Connection) -> None:
    worker.start(*(host.order(f"s{int(n)}", f"ulimit -c 0; kill -{int(n)} $$") for n in CATCHABLE))
    for number in CATCHABLE:
        end = worker.end_of(f"s{int(number)}")
        assert (end["cause"], end["exit_code"], end["signal"]) == ("exit", None, int(number))


def test_a_core_dump_is_told(host: Host, worker: Connection) -> None:
    if not Path("/proc/sys/kernel/core_pattern").read_text().strip() or (
        resource.getrlimit(resource.RLIMIT_CORE)[1] == 0
    ):
        pytest.skip("this host writes no core files")
    end = end_by(worker, host.order("core", "ulimit -c unlimited; kill -QUIT $$"))
    assert end["signal"] == signal.SIGQUIT
    if "core" in {path.name.partition(".")[0] for path in (host.place("core") / "work").iterdir()}:
        assert "dumped core" in end["message"]


def scripts(directory: Path) -> dict[str, Path]:
    """Files that cannot be executed, each for another reason."""
    made = {name: directory / name for name in ("plain", "shebang", "text", "empty", "binary")}
    made["plain"].write_text("#!/bin/sh\n")
    made["shebang"].write_text("#!/no/such/interpreter -x\n")
    made["text"].write_text("just words\n")
    made["empty"].write_text("")
    made["binary"].write_bytes(b"\x7fELF" + bytes(60))
    for name in ("shebang", "text", "empty", "binary"):
        made[name].chmod(0o755)
    return made


@pytest.mark.parametrize(("argv", "step", "errno_name", "says"), [
    (["no-such-program"], "program", "ENOENT", "was not found in PATH"),
    (["/no/such/program"], "program", "ENOENT", "'/no/such/program' does not exist"),
    (["./not-here"], "program", "ENOENT", "does not exist"),
    (["{plain}"], "program", "EACCES", "is not executable"),
    (["/usr"], "program", "EACCES", "is a directory"),
    (["/etc/passwd/x"], "program", "ENOTDIR", "'/etc/passwd/x'"),
    (["{shebang}"], "program", "ENOENT", "interpreter '/no/such/interpreter' of the script"),
    (["{text}"], "program", "ENOEXEC", "begins with '#!'"),
    (["{empty}"], "program", "ENOEXEC", "begins with '#!'"),
    (["{binary}"], "program", "ENOEXEC", "neither an executable"),
    (["/bin/true", "x" * 200_000], "program", "E2BIG", "larger than the system accepts"),
])  # fmt: skip
def test_a_program_that_cannot_be_launched(
    host: Host,
    worker: Connection,
    tmp_path: Path,
    argv: list[str],
    step: str,
    errno_name: str,
    says: str,
) -> None:
    files = {name: str(path) for name, path in scripts(tmp_path).items()}
    words = [word.format_map(files) for word in argv]
    end = end_by(worker, host.order("bad", words))
    assert end["cause"] == "launch_failed"
    assert end["exit_code"] is None
    assert end["signal"] is None
    assert end["message"].endswith(f"({step}: {errno_name})")
    assert says in end["message"]


def test_one_megabyte_of_environment(host: Host, worker: Connection) -> None:
    end = end_by(worker, host.order("env", ["true"], env={"BIG": "x" * 1_000_000}))
    assert end["cause"] == "launch_failed"
    assert "E2BIG" in end["message"]


@pytest.mark.parametrize(("work_dir", "errno_name", "says"), [
    ("/no/such/place", "ENOENT", "'/no/such/place' does not exist"),
    ("/etc/passwd", "ENOTDIR", "is not a directory"),
    ("/proc/self/fd/9999", "ENOENT", "does not exist"),
    ("/" + "x" * 5000, "ENAMETOOLONG", "xxx…"),
])  # fmt: skip
def test_a_working_directory_that_cannot_be_entered(
    host: Host, worker: Connection, work_dir: str, errno_name: str, says: str
) -> None:
    end = end_by(worker, host.order("cwd", ["true"], work_dir=work_dir))
    assert end["cause"] == "launch_failed"
    assert end["message"].endswith(f"(working directory: {errno_name})")
    assert says in end["message"]


def test_a_directory_outside_the_root_is_refused(host: Host, worker: Connection) -> None:
    for number, place in enumerate(("/tmp/elsewhere", f"{host.attempts}/../x", f"{host.attempts}")):
        end = end_by(worker, host.order(f"d{number}", ["true"], directory=place))
        assert end["cause"] == "launch_failed"
        assert "is not beneath" in end["message"]


def test_a_planted_link_is_not_followed(host: Host, worker: Connection, tmp_path: Path) -> None:
    host.place("link").parent.mkdir(parents=True, exist_ok=True)
    host.place("link").symlink_to(tmp_path)
    end = end_by(worker, host.order("link", ["true"]))
    assert end["cause"] == "launch_failed"
    assert "attempt directory" in end["message"]
    victim = tmp_path / "victim"
    victim.write_text("kept")
    here = 'd=$(dirname "$JOBSERVICE_PROGRESS"); ln -s'
    end = end_by(worker, host.order("plant", f"{here} {victim} $d/stdout; echo mine"))
    assert end["exit_code"] == 0
    assert host.stdout("plant") == b"mine\n"
    assert victim.read_text() == "kept"


def test_orders_that_make_no_sense_end_and_harm_nobody(host: Host, worker: Connection) -> None:
    nonsense: list[Any] = [
        None, 7, {}, {"key": 5}, host.order("argv", []), host.order("nul", ["a\0b"]),
        host.order("env", ["true"], env={"A=B": "x"}), host.order("limit", ["true"],
                                                                  output_limit_bytes=-1),
        host.order("time", ["true"], run_timeout_s="soon"), host.order("b64", ["true"], stdin="?"),
        host.order("idle", ["true"], idle_timeout_s=-1), host.order("half", ["true", "\ud800"]),
    ]  # fmt: skip
    worker.start(*nonsense, host.order("good", ["true"]))
    for key in ("argv", "nul", "env", "limit", "time", "idle", "b64", "half"):
        assert worker.end_of(key)["cause"] == "launch_failed", key
    assert worker.end_of("good")["exit_code"] == 0


def test_what_a_process_is_given(host: Host, worker: Connection, compiled: Path) -> None:
    order = host.order(
        "look", [str(compiled / "look")],
        env={"OWN": "1", "LANG": "xx", "JOBSERVICE_PROGRESS": "/forged"},
        fixed_env={"JOBSERVICE_JOB_ID": "j1", "JOBSERVICE_ATTEMPT": "3"},
    )  # fmt: skip
    assert end_by(worker, order)["exit_code"] == 0
    lines = host.stdout("look").decode().splitlines()
    facts = {name: value for name, _, value in (line.partition(" ") for line in lines)}
    assert facts["fds"] == "0 1 2"
    assert facts["blocked"] == ""
    assert facts["not-default"] == ""
    assert facts["leads-session"] == facts["leads-group"] == "1"
    assert facts["terminal"] == "0"
    assert facts["umask"] == "022"
    assert facts["cwd"] == str(host.place("look") / "work")
    assert facts["files"] == str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    variables = dict(line[4:].split("=", 1) for line in lines if line.startswith("env "))
    assert variables == {
        "PATH": SHELL_PATH, "HOME": str(Path("~").expanduser()), "LANG": "xx", "OWN": "1",
        "JOBSERVICE_JOB_ID": "j1", "JOBSERVICE_ATTEMPT": "3", "JOBSERVICE_ATTEMPT_KEY": "look",
        "JOBSERVICE_PROGRESS": str(host.place("look") / "progress"),
    }  # fmt: skip
    assert (host.place("look").stat().st_mode & 0o777) == 0o700


def test_a_program_is_looked_up_in_the_path_of_the_job(
    host: Host, worker: Connection, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "tool").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "b" / "tool").write_text("#!/bin/sh\nexit 42\n")
    (tmp_path / "b" / "tool").chmod(0o755)
    path = f"{tmp_path}/a:{tmp_path}/b"
    assert end_by(worker, host.order("p", ["tool"], env={"PATH": path}))["exit_code"] == 42
    alone = end_by(worker, host.order("q", ["tool"], env={"PATH": f"{tmp_path}/a"}))
    assert "EACCES" in alone["message"]
    here = host.order("r", ["./tool"], work_dir=str(tmp_path / "b"))
    assert end_by(worker, here)["exit_code"] == 42


def test_standard_input(host: Host, worker: Connection) -> None:
    data = bytes(range(256)) * 20_000
    order = host.order("in", ["cat"], stdin=base64.b64encode(data).decode())
    assert end_by(worker, order)["stdout_bytes"] == len(data)
    assert host.stdout("in") == data
    assert end_by(worker, host.order("none", ["cat"]))["exit_code"] == 0
    unread = host.order("unread", ["true"], stdin=base64.b64encode(data).decode())
    assert end_by(worker, unread)["exit_code"] == 0


def test_arguments_are_passed_verbatim(host: Host, worker: Connection) -> None:
    words = ["$(id)", "a b", "", "-n", "é€", "line\nbreak", "'\"", "*"]
    end_by(worker, host.order("argv", ["printf", "%s|", *words]))
    assert host.stdout("argv").decode() == "".join(f"{word}|" for word in words)


def test_a_job_may_hurt_its_session_and_its_parent(host: Host, worker: Connection) -> None:
    worker.start(host.order("bystander", ["sleep", "600"]))
    worker.pid_of("bystander")
    end = end_by(
        worker,
        host.order(
            "harm",
            "trap '' HUP; kill -HUP $PPID; kill -INT $PPID;"
            " kill -USR1 $PPID; kill $PPID; sleep 0.1; kill -9 0",
        ),
    )
    assert (end["cause"], end["signal"]) == ("exit", 9)
    worker.stop("bystander")
    assert worker.end_of("bystander")["cause"] == "stop"
