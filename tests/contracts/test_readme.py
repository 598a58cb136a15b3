"""The README tells the truth about the tree, the commands and the presets."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from engine.preflight.steps import STEPS
from engine.shape import PRESETS
from tui.cli import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_every_captioned_folder_exists_and_every_room_is_captioned() -> None:
    tree = README.split("## The tree")[1]
    captioned = set(re.findall(r"^([\w/]+)/ {2,}\S", tree, re.MULTILINE))
    on_disk = {"engine", "tui", "tests", "bench", "docs"}
    for top in ("engine", "tui"):
        on_disk |= {
            f"{top}/{path.name}" for path in (ROOT / top).iterdir() if (path / "__init__.py").exists()
        }
    assert captioned == on_disk


def test_every_command_is_in_the_readme_and_the_other_way_round() -> None:
    table = README.split("## The command line")[1].split("## The tree")[0]
    named = set(re.findall(r"`(?:llm-tui )?([a-z]+)[` ]", table)) - {"llm"}
    assert set(main.commands) <= named
    assert {name for name in re.findall(r"`llm-tui ([a-z]+)", README)} <= set(main.commands)


def test_the_presets_have_the_parameters_that_the_readme_says() -> None:
    for name, shape in PRESETS.items():
        assert f"| `{name}` | {shape.parameters / 1e6:.1f} M | {shape.n_layer} " in README


def test_the_number_of_checks_is_right() -> None:
    words = {13: "Thirteen", 14: "Fourteen", 15: "Fifteen", 16: "Sixteen"}
    assert f"{words[len(STEPS)]} checks" in README


def test_the_pictures_are_there() -> None:
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).stat().st_size > 1000


def test_the_entry_point_and_the_packages_are_as_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["scripts"] == {"llm-tui": "tui.__main__:main"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["tui", "engine"]
