"""The pages for users name commands, options, settings and checks that there are."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

from engine.preflight.steps import STEPS
from engine.settings import Settings
from tui.cli import main

ROOT = Path(__file__).resolve().parents[2]
ENDINGS = ("toml", "gguf", "safetensors", "md")
"""Of files whose names look like settings."""
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "LOG.md")


def commands(text: str) -> list[str]:
    """What stands behind `llm-tui` in code, in a block or in a line; lines that are broken with \\ are joined."""
    code = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) + re.findall(r"(?<!`)`([^`]+)`(?!`)", text)
    return [
        found
        for part in code
        for found in re.findall(
            r"(?<![\w'-])llm-tui((?: [^\n|#&]*)?)", part.replace("\\\n", " ").replace("\n ", " ")
        )
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one_with_these_options(page: Path) -> None:
    for command in commands(page.read_text("utf-8")):
        name, *words = command.split() or [""]
        if not name or not re.fullmatch(r"[a-z]+", name):
            continue
        assert name in main.commands, f"{page.name}: llm-tui {command}"
        known = {
            option
            for parameter in main.commands[name].params
            if isinstance(parameter, click.Option)
            for option in parameter.opts
        }
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{page.name}: llm-tui {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_of_a_page_is_one(page: Path) -> None:
    sections = {section.name: section.type for section in msgspec.structs.fields(Settings)}
    for section, key in re.findall(r"\b([a-z]+)\.([a-z_]+)\b", page.read_text("utf-8")):
        if section in sections and key not in ENDINGS:
            assert key in {field.encode_name for field in msgspec.structs.fields(sections[section])}, (
                f"{page.name}: {section}.{key}"
            )


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "README.md"]:
        for link in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_checks_that_the_laptops_page_names_are_there() -> None:
    text = (ROOT / "docs" / "laptop.md").read_text("utf-8")
    groups = re.findall(r"\*\*[^*]*\(([^)]*)\)\.\*\*", text)
    named = {name for group in groups for name in re.findall(r"`([a-z-]+)`", group)}
    assert len(named) >= 6 and named <= {step.id for step in STEPS}
