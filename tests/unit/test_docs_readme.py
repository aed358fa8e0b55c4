"""The README's commands are those of the program: listings word for word, and every option and file in an example."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from strongroom import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "THREATS.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(text) if found == language]


def help_of(arguments: list[str]) -> str:
    result = CliRunner().invoke(cli.cli, arguments, prog_name="strongroom", terminal_width=80, max_content_width=80)
    assert result.exit_code == 0, result.output
    return result.output


def command_at(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words lead to, and the words that are left."""
    command: click.Command = cli.cli
    while words and isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), words[0])
        if inner is None:
            break
        command, words = inner, words[1:]
    return command, words


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def leaves(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        elif command is not None:
            yield " ".join((*path, name)), command


def invocations() -> Iterator[str]:
    """Every `strongroom …` with arguments that a document or a configuration file shows."""
    for document in DOCUMENTS:
        text = document.read_text()
        for body in blocks(text, "console"):
            yield from re.findall(r"^\$ (?:.*/)?(strongroom [^\n#]+)", body, flags=re.MULTILINE)
        yield from re.findall(r"`(strongroom [a-z][^`\n…]*)`", BLOCK.sub("", text))
    for file in CONFIGS:
        yield from re.findall(r"`(strongroom [a-z][^`\n]*)`", file.read_text())
        yield from re.findall(r"^#\s+(strongroom [a-z][^\n]*)", file.read_text(), flags=re.MULTILINE)


def test_listings_are_what_help_prints() -> None:
    listings = [body for body in blocks(README, "console") if re.match(r"\$ strongroom.* --help\n", body)]
    assert listings
    for listing in listings:
        command, _, shown = listing.partition("\n")
        assert shown == help_of(shlex.split(command)[2:]), command


def test_the_table_lists_every_command_with_its_own_help() -> None:
    listed = dict(re.findall(r"^\| `strongroom ([a-z -]+)` \| (.+) \|$", README, flags=re.MULTILINE))
    expected = {path: command.get_short_help_str(200) for path, command in leaves(cli.cli, ()) if path != "demo"}
    assert listed == expected


@pytest.mark.parametrize("invocation", sorted({invocation.strip() for invocation in invocations()}))
def test_every_command_in_an_example_exists_with_its_options(invocation: str) -> None:
    command, rest = command_at(shlex.split(invocation)[1:])
    allowed = options_of(command)
    assert {word for word in rest if word.startswith("-")} <= allowed
    if isinstance(command, click.Group):
        assert not [word for word in rest if not word.startswith("-")], f"{command.name} has no such command"


def test_the_example_files_that_are_mentioned_in_commands_exist() -> None:
    for name in re.findall(r"--config (\S+)", README):
        assert (ROOT / "configs" / name).is_file(), name


def test_make_targets_that_are_mentioned_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    mentioned = set(re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+) ", README, flags=re.MULTILINE))
    assert {name for pair in mentioned for name in pair if name} <= targets
    assert {"demo", "test"} <= targets


@pytest.mark.parametrize("body", blocks(README, "python"))
def test_python_examples_compile(body: str) -> None:
    compile(body, "README.md", "exec", dont_inherit=True)


def test_the_first_screen_says_that_a_simulated_tee_protects_nothing() -> None:
    assert re.search(r"simulated TEE protects nothing", README[:400])


def test_documents_name_nothing_that_is_not_the_projects() -> None:
    for document in [*DOCUMENTS, *CONFIGS]:
        text = document.read_text()
        assert os.fspath(ROOT) not in text, document.name
