"""The page about the command line says what the command line says."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from controller.cli.main import program
from tests.controller.cli.update_golden import GOLDEN

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "cli.md"


def _help(name: str) -> str:
    names = ["-h", "--help"]
    parent = click.Context(program, info_name="kubectl dragoman", terminal_width=100, help_option_names=names)
    if not name:
        return program.get_help(parent)
    command = program.commands[name]
    return command.get_help(click.Context(command, info_name=name, parent=parent, terminal_width=100))


@pytest.mark.parametrize("name", ["", *program.commands])
def test_the_page_holds_the_help_of_every_command(name: str) -> None:
    assert f"```text\n{_help(name)}\n```" in PAGE.read_text()


@pytest.mark.parametrize("name", ["status-controller", "in-use", "simulate-fits"])
def test_the_examples_of_the_page_are_what_is_printed(name: str) -> None:
    text = (GOLDEN / f"{name}.txt").read_text().rpartition("exit status")[0]
    assert f"```text\n{text}```" in PAGE.read_text()
