"""The help of the command line in the language of who reads it, and click's own texts beside it."""

from __future__ import annotations

import gettext
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from tui import language
from tui.language import mark, tr

_CLICK_SAYS = (
    *(mark("Usage:"), mark("Options"), mark("Commands"), mark("Show this message and exit.")),
    *(mark("Show the version and exit."), mark("Error: {message}"), mark("Aborted!"), mark("[OPTIONS]")),
    *(mark("No such option: {name}"), mark("No such command {name!r}."), mark("Missing command.")),
    *(mark("Try '{command} {option}' for help."), mark("default: {default}"), mark("env var: {var}")),
)
"""Texts of click's own, which it looks up in the catalogue that gettext was told of."""


class _Formatter(click.HelpFormatter):
    """Help in the language: paragraph by paragraph, and what each option does."""

    def write_text(self, text: str) -> None:
        """Our texts are looked up whole, before they are wrapped."""
        paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
        super().write_text("\n\n".join(tr(part) for part in paragraphs))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        """What click adds to a help, in brackets, stands behind it."""
        told = [
            (first, "  [".join([tr(second.split("  [")[0]), *second.split("  [")[1:]]))
            for first, second in rows
        ]
        super().write_dl(told, *args, **kwargs)


class SpokenContext(click.Context):
    """Shows its help in the language."""

    formatter_class = _Formatter


class SpokenCommand(click.Command):
    """A command whose help is in the language."""

    context_class = SpokenContext

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first paragraph, as long as it is."""
        return tr(" ".join((self.help or "").split("\n\n")[0].split()))


def speak(args: Sequence[str]) -> None:
    """Choose the language for the workspace that the arguments name; click asks gettext for its own texts."""
    language.use(language.chosen(Path(_workspace_named(args))))
    if language.code() != "en":
        os.environ["LANGUAGE"] = language.code()
        gettext.bindtextdomain(language.DOMAIN, str(language.FOLDER))
        gettext.textdomain(language.DOMAIN)


def _workspace_named(args: Sequence[str]) -> str:
    """The folder after --workspace, before click has read it."""
    for index, argument in enumerate(args):
        name, equals, folder = argument.partition("=")
        if name == "--workspace":
            return folder if equals else "".join(args[index + 1 : index + 2])
    return "."
