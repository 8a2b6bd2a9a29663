"""The command before it asks the service: help, words that are wrong, and what it loads."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from jobservice.cli.main import COMMANDS, cli
from jobservice.cli.options import KEY, LENGTH, PAIR, PRIORITY
from jobservice.model.limit import ConcurrencyKey
from tests.cli.conftest import Shell

HEAVY = {"grpc", "google", "rich", "pydantic", "apsw", "uvloop", "asyncio"}


def subcommands() -> list[tuple[str, click.Command]]:
    """Every command by its words, those of groups included."""
    context = click.Context(cli)
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {each}", inner) for each, inner in command.commands.items()]
    return found


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['jobservice', *{arguments!r}]\n"
        "from jobservice.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert not HEAVY & set(ran.stdout.splitlines()[-1].split())


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    for name, command in subcommands():
        if name in COMMANDS:
            sentence = re.match(r".*?(?:[:.;](?=\s)|\.$)", (command.help or "").partition("\n")[0])
            assert sentence, name
            assert COMMANDS[name][1].startswith(sentence.group().rstrip(".;:")), name
            assert command.name == name


def test_help_has_the_examples_first_and_a_sentence_for_every_option() -> None:
    for name, command in subcommands():
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.opts}"
        help_text = command.get_help(click.Context(command, info_name=name))
        if "Examples:" in help_text:
            assert help_text.index("Examples:") < help_text.index("Options:")
            assert "\n  jobservice" not in help_text.replace("\n    jobservice", "")


def test_every_command_that_asks_the_service_can_answer_in_json() -> None:
    for name, command in subcommands():
        options = {each for option in command.params for each in option.opts}
        ours = {"serve", "worker", "db sql"}  # they go on; what `db sql` prints is for psql
        if name not in ours and not isinstance(command, click.Group):
            assert "--json" in options, name


def test_the_lists_of_commands_are_not_cut() -> None:
    for name, command in subcommands():
        if isinstance(command, click.Group):
            lines = command.get_help(click.Context(command, info_name=name)).splitlines()
            assert not [line for line in lines[1:] if line.endswith("...")], name


def test_no_words_at_all_show_the_help(alone: Shell) -> None:
    ran = alone()
    assert ran.code == 2
    assert "Usage: jobservice" in ran.err + ran.out


@pytest.mark.parametrize(
    ("words", "meant"), [("sumbit", "submit"), ("lst", "list"), ("histroy", "history")]
)
def test_a_word_that_is_nearly_right_is_recognised(alone: Shell, words: str, meant: str) -> None:
    ran = alone(words)
    assert ran.code == 2
    assert f"Did you mean '{meant}'" in ran.err
    assert ran.raw == b""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["submit"], "Missing argument"),
        (["submit", "--env", "NOVALUE", "--", "x"], "is not NAME=VALUE"),
        (["submit", "--timeout", "soon", "--", "x"], "write 90s, 5m or 1h30m"),
        (["submit", "--priority", "urgent", "--", "x"], "neither high, medium, low nor a number"),
        (["submit", "--key", "", "--", "x"], "is not NAME, NAME:LIMIT or NAME:LIMIT:WEIGHT"),
        (["submit", "--key", ":3", "--", "x"], "':3' is not NAME, NAME:LIMIT"),
        (["submit", "--key", "db:0", "--", "x"], "'db:0' has a LIMIT below 1"),
        (["submit", "--key", "db::0", "--", "x"], "'db::0' has a WEIGHT below 1"),
        (["submit", "--array-items", "/dev/null", "--", "x"], "/dev/null is empty"),
        (["submit", "--on-conflict", "reject", "--", "x"], "--on-conflict is about a key"),
        (["submit", "--on-duplicate", "reject", "--", "x"], "--on-duplicate is about a unique key"),
        (["submit", "--unique-window", "1h", "--", "x"], "give --unique too"),
        (["submit", "--unique", "u", "--unique-states", "queued,x", "--", "x"], "'x' is no state"),
        (
            ["submit", "--unique", "u", "--unique-window", "99999999999d", "--", "x"],
            "longer than any may be",
        ),
        (["queue", "update", "q"], "Nothing to change"),
        (["limit", "set", "key", "k", "--rate", "often"], "is not N/TIME; write 10/1m"),
        (["limit", "set", "key", "k", "--burst", "5"], "--burst is about a rate"),
        (["limit", "set", "key", "k"], "Give --max-running, --rate or --weight"),
        (["limit", "set", "service"], "Give --max-running, --rate or --weight"),
        (["limit", "set", "job"], "Invalid value for 'KIND'"),
        (["submit", "--queue", "", "--", "x"], "Invalid value for '--queue': it is empty"),
        (["update", "j1", "--queue", ""], "Invalid value for '--queue': it is empty"),
        (["update", "j1", "--label", "a=b", "--no-labels"], "exclude each other"),
        (["submit", "--cpu", "2", "--resource", "cpu=1", "--", "x"], "--resource cpu=… exclude"),
        (["submit", "--fairness-weight", "2", "--", "x"], "give --fairness-key too"),
        (
            ["schedule", "create", "s", "--every", "1h", "--fairness-weight", "2", "--", "x"],
            "give --fairness-key too",
        ),
        (["schedule", "create", "s", "--every", "1h", "--queue", "", "--", "x"], "it is empty"),
        (
            ["schedule", "create", "s", "--every", "1h", "--time-zone", "Asia/Tokyo", "--", "x"],
            "--time-zone is about --cron",
        ),
        (["schedule", "preview", "--every", "1h", "--time-zone", "UTC"], "is about --cron"),
        (["schedule", "backfill", "s", "--cancel", "--dry-run"], "--cancel excludes --dry-run"),
        (["list", "--state", "sleeping"], "Invalid value for '--state'"),
        (["list", "--active", "--state", "failed"], "exclude each other"),
        (["logs", "--attempt", "x", "j1"], "Invalid value for '--attempt'"),
        (["update", "j1"], "Nothing to change"),
        (["wait"], "Missing argument"),
    ],
)
def test_what_is_wrong_with_the_words_is_a_usage_error(
    alone: Shell, arguments: list[str], complaint: str
) -> None:
    ran = alone(*arguments)
    assert (ran.code, ran.raw) == (2, b"")
    assert complaint in ran.err


REFUSED_NUMBERS = [
    (["submit", "--retries", "-1", "--", "x"], "--retries", "-1 is below 0; give 0 for none"),
    (["submit", "--retries", "1000", "--", "x"], "--retries", "1000 is above 999"),
    (["submit", "--array", "0", "--", "x"], "--array", "0 is below 1; leave it out"),
    (["submit", "--max-parallel", "-1", "--", "x"], "--max-parallel", "give 0 for no limit"),
    (["submit", "--max-failures", "-1", "--", "x"], "--max-failures", "leave it out for never"),
    (["submit", "--output-limit", "-1", "--", "x"], "--output-limit", "leave it out for 1 GiB"),
    (["submit", "--timeout", "-5", "--", "x"], "--timeout", "'-5' is below 0; write 90s"),
    (["submit", "--delay", "nan", "--", "x"], "--delay", "'nan' is no length of time"),
    (["submit", "--key", "a:-1", "--", "x"], "--key", "'a:-1' has a number below 0"),
    (["submit", "--key", "a::-1", "--", "x"], "--key", "'a::-1' has a number below 0"),
    (["submit", "--key", "a:-1:2", "--", "x"], "--key", "'a:-1:2' has a number below 0"),
    (["update", "j", "--retries", "-2"], "--retries", "-2 is below 0; give 0 for none"),
    (["list", "--limit", "-1"], "--limit", "-1 is below 0; give 0 for all"),
    (["history", "--limit", "-1"], "--limit", "give 0 for all"),
    (["history", "--since", "-5"], "--since", "'-5' is below 0"),
    (["wait", "--timeout", "-1", "j"], "--timeout", "'-1' is below 0"),
    (["logs", "--attempt", "-1", "j"], "--attempt", "give 0 for the newest"),
    (["logs", "--index", "-1", "j"], "--index", "the first index is 0"),
    (["bulk", "list", "--limit", "-1"], "--limit", "give 0 for all"),
    (["bulk", "hold", "--filter", "*", "--max-per-second", "-1"], "--max-per-second", "give 0"),
    (["limit", "list", "--limit", "-1"], "--limit", "give 0 for all"),
    (["limit", "set", "service", "--max-running", "-1"], "--max-running", "give 0 for no limit"),
    (["limit", "set", "key", "k", "--rate", "1/1s", "--burst", "-1"], "--burst", "leave it out"),
    (["queue", "list", "--limit", "-1"], "--limit", "give 0 for all"),
    (["queue", "update", "q", "--max-depth", "-1"], "--max-depth", "give 0 for no limit"),
    (["queue", "update", "q", "--max-running", "-1"], "--max-running", "give 0 for no limit"),
    (["schedule", "list", "--limit", "-1"], "--limit", "give 0 for all"),
    (["schedule", "runs", "s", "--limit", "-1"], "--limit", "give 0 for all"),
    (["schedule", "preview", "s", "-n", "-1"], "-n", "leave it out for 10"),
    (["schedule", "backfill", "s", "--rate", "-1"], "--rate", "leave it out for 60"),
    (["schedule", "update", "s", "--misfire-count", "-1"], "--misfire-count", "for 10"),
    (["schedule", "update", "s", "--pause-after-failures", "-1"], "failures", "0 for never"),
    (["workers", "list", "--limit", "-1"], "--limit", "give 0 for all"),
]


@pytest.mark.parametrize(("arguments", "option", "complaint"), REFUSED_NUMBERS)
def test_a_number_that_there_cannot_be_is_refused(
    arguments: list[str], option: str, complaint: str
) -> None:
    with pytest.raises(click.UsageError) as raised:
        cli.main(arguments, standalone_mode=False)
    assert option in raised.value.format_message()
    assert complaint in raised.value.format_message()


def test_no_option_takes_any_number() -> None:
    """Whoever adds one says from where on it counts."""
    free = {"serve --slots", "worker --slots", "db sql --from", "db sql --to"}  # told at the start
    found = {
        f"{name} {option.opts[0]}"
        for name, command in subcommands()
        for option in command.params
        if option.type is click.INT
    }
    assert found == free


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800),
     ("250ms", 0.25)],
)  # fmt: skip
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert LENGTH.convert(text, None, None) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "5 m", "m", "5x", "1h30", "--5s", "-5", "-0.1", "nan", "inf"]
)
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(click.BadParameter):
        LENGTH.convert(text, None, None)


def test_pairs_and_priorities() -> None:
    assert PAIR.convert("A=b=c", None, None) == ("A", "b=c")
    assert PAIR.convert("A=", None, None) == ("A", "")
    assert PRIORITY.convert("high", None, None) == "high"
    assert PRIORITY.convert("-5", None, None) == -5


@pytest.mark.parametrize(
    ("text", "key"),
    [("db", ("db", 0, 1)), ("gpu:4", ("gpu", 4, 1)), ("gpu:4:2", ("gpu", 4, 2)),
     ("gpu::2", ("gpu", 0, 2)), ("a:b", ("a:b", 0, 1)),
     ("a-1:b", ("a-1:b", 0, 1)), ("a:-b", ("a:-b", 0, 1)), ("host:80::", ("host:80", 0, 1))],
)  # fmt: skip
def test_concurrency_keys(text: str, key: tuple[str, int, int]) -> None:
    assert KEY.convert(text, None, None) == ConcurrencyKey(*key)


def test_a_service_that_is_not_there_is_said_at_once(alone: Shell, tmp_path: Path) -> None:
    ran = alone("list")
    assert (ran.code, ran.raw) == (69, b"")
    assert (
        f"unix:{tmp_path}/jobservice.sock cannot be reached: No such file or directory" in ran.err
    )
    assert "`jobservice serve` starts it" in ran.err


@pytest.mark.parametrize("place", ["before", "behind", "environment"])
def test_the_address_may_be_given_in_three_places(alone: Shell, place: str) -> None:
    address = "127.0.0.1:1"
    match place:
        case "before":
            ran = alone("--address", address, "list")
        case "behind":
            ran = alone("list", "--address", address)
        case _:
            ran = alone("list", JOBSERVICE_ADDRESS=address)
    assert ran.code == 69
    assert f"{address} cannot be reached" in ran.err


def test_an_address_that_is_none(alone: Shell) -> None:
    ran = alone("--address", "http://here", "list")
    assert ran.code == 2
    assert "must be unix:/ABSOLUTE/PATH or HOST:PORT; got 'http://here'" in ran.err


def test_settings_that_are_wrong_stop_the_start(alone: Shell) -> None:
    ran = alone("serve", "--slots", "-1")
    assert (ran.code, ran.raw) == (78, b"")
    assert "--slots" in ran.err


def test_the_schema_of_a_database(alone: Shell, tmp_path: Path) -> None:
    assert alone("db", "current").out == "0\n"
    ran = alone.ok("db", "upgrade")
    version = ran.out.strip()
    assert int(version) >= 1
    assert "Applied 0001" in ran.err
    assert alone.ok("db", "upgrade").err == ""
    assert alone.ok("db", "current", "--json").objects == [{"version": int(version)}]
    assert alone.ok("db", "upgrade", "--json").objects == [{"applied": []}]
    assert (tmp_path / "jobservice.db").exists()


def test_words_are_completed(alone: Shell) -> None:
    ran = alone(_JOBSERVICE_COMPLETE="bash_complete", COMP_WORDS="jobservice sub", COMP_CWORD="1")
    assert "submit" in ran.out
