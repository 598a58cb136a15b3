"""The screens of the app: their keys, names, and how each is made when it is first shown."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from textual.screen import Screen

from tui.language import mark


def _open_preflight() -> Screen[None]:
    from tui.screens.preflight import PreflightScreen

    return PreflightScreen()


def _open_run() -> Screen[None]:
    from tui.screens.run import RunScreen

    return RunScreen()


def _open_ledger() -> Screen[None]:
    from tui.screens.ledger import LedgerScreen

    return LedgerScreen()


def _open_runs() -> Screen[None]:
    from tui.screens.runs import RunsScreen

    return RunsScreen()


def _open_plan() -> Screen[None]:
    from tui.screens.plan import PlanScreen

    return PlanScreen()


def _open_settings() -> Screen[None]:
    from tui.screens.settings import SettingsScreen

    return SettingsScreen()


def _open_samples() -> Screen[None]:
    from tui.screens.samples import SamplesScreen

    return SamplesScreen()


def _open_log() -> Screen[None]:
    from tui.screens.log import LogScreen

    return LogScreen()


class Mode(NamedTuple):
    """One screen."""

    name: str
    title: str
    short: str
    """The title where there is little room."""
    about: str
    open: Callable[[], Screen[None]]
    """Screens are imported when they are first shown, so that the first paint waits for one of them only."""


MODES = (
    Mode(
        "preflight",
        mark("Preflight"),
        mark("Pre"),
        mark("The checks, and the start of a run"),
        _open_preflight,
    ),
    Mode("run", mark("Run"), mark("Run"), mark("The followed run"), _open_run),
    Mode("ledger", mark("Ledger"), mark("Ledger"), mark("What every run cost"), _open_ledger),
    Mode("runs", mark("Runs"), mark("Runs"), mark("Every run of the workspace"), _open_runs),
    Mode(
        "plan",
        mark("Plan"),
        mark("Plan"),
        mark("What a run would need and cost, and whether the cloud is the better deal"),
        _open_plan,
    ),
    Mode(
        "settings",
        mark("Settings"),
        mark("Set"),
        mark("settings.toml as a form, and what a change does"),
        _open_settings,
    ),
    Mode(
        "samples",
        mark("Samples"),
        mark("Text"),
        mark("What the model says, step by step and now"),
        _open_samples,
    ),
    Mode("log", mark("Log"), mark("Log"), mark("Events and output of the followed run"), _open_log),
)
"""In the order of their keys, from 1."""


def imports() -> Iterator[str]:
    """Import the screens, one at each step."""
    for mode in MODES:
        importlib.import_module(f"tui.screens.{mode.name}")
        yield mode.name
