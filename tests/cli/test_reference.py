"""Every command has help with examples, and ``designs/cli.md`` tells the truth of all of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from casstore.cli.command import Examples
from casstore.cli.root import root
from tests.cli.conftest import Run, add_entry
from tests.cli.reference import commands, help_of, reference, written

COMMANDS = dict(commands())
ROW = re.compile(r"^\| `(?P<command>[^`]+)` \| (?P<array>array)? ?\| (?P<fields>`.+`) \|$", re.MULTILINE)
JSON = [(row["command"], row["array"], row["fields"]) for row in ROW.finditer(written()[0])]


def examples_of(command: click.Command) -> list[list[str]]:
    """Return the command lines of casstore among a command's examples, without the program's name."""
    assert isinstance(command, Examples)
    lines = [re.split(r" {3,}", line)[0] for line in command.examples.splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"\||&&", line)]
    return [shlex.split(part)[1:] for part in parts if part.startswith("casstore ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    """A sentence that the list of commands shows whole, every option explained, and an example of itself."""
    command = COMMANDS[name]
    sentence = command.get_short_help_str(100)
    assert sentence.endswith(".")
    assert len(sentence) <= 80 - len("  version  ")
    assert all(param.help for param in command.params if isinstance(param, click.Option))
    examples = [" ".join(["casstore", *args]) for args in examples_of(command)]
    assert any(re.sub(r" --store \S+", "", example).startswith(name) for example in examples)
    assert all(len(line) <= 80 for line in help_of(name, command).splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_line_that_casstore_takes(name: str) -> None:
    """Every command and option in an example exists."""
    for args in examples_of(COMMANDS[name]):
        context = root.make_context("casstore", list(args))
        while isinstance(context.command, click.Group):
            _, command, rest = context.command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            assert command is not None
            try:
                context = command.make_context(command.name, list(rest), parent=context)
            except click.BadParameter:  # a digest that is shortened to fit the line
                assert "..." in " ".join(args)
                break


def test_the_reference_is_current() -> None:
    """If not: python -m tests.cli.reference."""
    assert written()[1] == reference()


def test_every_command_with_json_is_documented() -> None:
    """By a row in the table of fields."""
    with_json = {
        name.removeprefix("casstore ")
        for name, command in COMMANDS.items()
        if any("--json" in param.opts for param in command.params)
    }
    assert with_json == {re.sub(r" (-.*|level)", "", command) for command, _, _ in JSON}


@pytest.mark.parametrize(("command", "array", "fields"), JSON)
def test_json_has_the_documented_fields(casstore: Run, command: str, array: str | None, fields: str) -> None:
    """All of them, and no other."""
    key = add_entry(1)
    casstore("put", "-", stdin=b"hello\n")
    casstore("remote", "add", "team", "./remote")
    casstore("--store", "remote", "init")
    casstore("export", "-o", "entries.jsonl")
    more: dict[str, list[str]] = {
        "show": [key],
        "explain": ["--provider", "openai", "call.json"],
        "export": ["-o", "more.jsonl"],
        "import": ["entries.jsonl"],
    }
    Path("call.json").write_text('{"model": "m-1", "messages": []}', "utf-8")
    args = [*command.split(), "--json", *more.get(command, [])]
    told = casstore(*args).json()
    if array:
        told = told[0]
    assert set(told) == set(re.findall(r"`(\w+)`", fields))
