"""docs/reference/cli.md says what the command line is."""

import re

import click

from jobservice.cli import exit_codes, main
from jobservice.errors import JobServiceError
from jobservice.wire.status import error_classes
from tests.arch import tree
from tests.cli.test_command import subcommands

TEXT = (tree.ROOT / "docs" / "reference" / "cli.md").read_text()
COMMON = {"--address", "--json", "--help"}


def sections() -> dict[str, str]:
    """The part about each command."""
    parts = re.split(r"^###? jobservice (.+)$", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(text: str) -> dict[str, str]:
    """The meaning of each option, by its names and its value."""
    rows = re.findall(r"^\| (`-.+?`) \| (.*) \|$", text, flags=re.MULTILINE)
    return {name.replace("\\|", "|").replace("`", ""): meaning for name, meaning in rows}


def options(command: click.Command) -> dict[str, str]:
    """What `--help` says of the options that not every command has."""
    context = click.Context(command)
    found = {}
    for each in command.params:
        if isinstance(each, click.Option) and not COMMON & set(each.opts):
            value = "" if each.is_flag else f" {each.make_metavar(context)}"
            found[", ".join(each.opts) + value] = each.help or ""
    return found


def test_every_command_has_its_section_in_order() -> None:
    assert list(sections()) == [name for name, _ in subcommands()]


def test_every_option_is_documented_as_it_is() -> None:
    for name, command in subcommands():
        assert documented(sections()[name]) == options(command), name


def codes(heading: str) -> dict[str, str]:
    """The table of exit codes below a line."""
    block = TEXT[TEXT.index(heading) :].split("\n\n")[1]
    return dict(re.findall(r"^\| (.+?) \| (.+) \|$", block, flags=re.MULTILINE)[1:])


def test_every_exit_code_of_an_error_is_documented() -> None:
    table = codes("Of every command")
    assert str(JobServiceError.exit_code) in table
    for error in error_classes():
        assert f"`{error.__name__}`" in table[str(error.exit_code)]
    named = {name for text in table.values() for name in re.findall(r"`(\w+)`", text)}
    assert named == {error.__name__ for error in error_classes()}
    assert {str(main.INTERRUPTED), str(main.BROKEN_PIPE), "0"} <= set(table)


def test_every_exit_code_of_a_job_is_documented() -> None:
    table = codes("Of `submit --wait` and `wait`")
    assert "timeout" in table[str(exit_codes.TIMED_OUT)]
    assert "launched" in table[str(exit_codes.NOT_LAUNCHED)]
    assert "cancelled" in table[str(exit_codes.CANCELLED)]
    assert "otherwise" in table[str(exit_codes.OTHER)]
    assert set(table) == {"0", "its own", "128 + n", "124", "126", "130", "1"}
