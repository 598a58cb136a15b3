"""The vocabulary of the settings, samples, log and shelf of runs, which are imported when they are first shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from engine.estimate import Estimate
    from engine.settings_edit import SettingsForm
    from engine.shelf import Comparison, Removal
    from engine.story import LogView, SampleBook


@dataclass(eq=False)
class FormArrived(Message):
    """settings.toml was read; `title` says why not, where it could not be."""

    form: SettingsForm | None
    title: str = ""
    remedy: str = ""


@dataclass(eq=False)
class ValueChecked(Message):
    """The engine has looked at what is being typed; `problem` is empty where it may stand."""

    dotted: str
    text: str
    problem: str
    is_final: bool
    """Whether it was given, not only typed."""
    wants: str = ""
    """What the value is not, where the problem is no more than that."""


@dataclass(eq=False)
class EffectArrived(Message):
    """What the changes of the form do was worked out; the estimate is None where it could not be, for `problem`."""

    number: int
    """Of the state of the form that it is about."""
    before: Estimate | None
    after: Estimate | None
    problem: str = ""


@dataclass(eq=False)
class SettingsSaved(Message):
    """The form was written into the file; `title` says why not, where it could not be."""

    title: str = ""
    remedy: str = ""


@dataclass(eq=False)
class SamplesArrived(Message):
    """What the model of a run has said was read."""

    book: SampleBook


@dataclass(eq=False)
class TextGrew(Message):
    """A text that was asked for has grown to this."""

    text: str

    def can_replace(self, message: Message) -> bool:
        """A longer text makes a shorter one needless."""
        return isinstance(message, TextGrew)


@dataclass(eq=False)
class TextEnded(Message):
    """A text is whole, was given up, or could not be written; `problem` is empty unless that."""

    problem: str = ""
    is_given_up: bool = False


@dataclass(eq=False)
class LogArrived(Message):
    """The window onto a run's log was read."""

    run_id: str
    view: LogView
    cursor: tuple[bool, int] | None = None
    """The line to stand on, by its name; None: the same as before."""


@dataclass(eq=False)
class LogSearchEnded(Message):
    """The output of a run that is not held was searched in vain."""

    text: str
    direction: int
    """-1: backwards."""


@dataclass(eq=False)
class ComparisonArrived(Message):
    """Some runs were read beside each other."""

    found: Comparison


@dataclass(eq=False)
class RemovalWeighed(Message):
    """It is known what archiving or deleting a run would free."""

    told: Removal


@dataclass(eq=False)
class RunRemoved(Message):
    """A run was archived or deleted."""

    told: Removal


@dataclass(eq=False)
class RunTagged(Message):
    """A run has other tags."""

    run_id: str
    tags: tuple[str, ...]
