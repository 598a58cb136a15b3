"""A pause that a guard gives: with a checkpoint before it, never over a person's own, and undone by the guard alone.

It goes the same way as a person's, through the commands, so that the history shows who did what.
"""

from __future__ import annotations

from engine.records import CommandRow, RunState
from engine.runs.store import RunStore

ASK_AGAIN_S = 30.0
"""A pause that came to nothing (the trainer died just then) is asked for again."""


class Hold:
    """The pauses of one guard."""

    def __init__(self, store: RunStore, who: str) -> None:
        """`who` gives the commands. A supervisor that died over a pause of its own finds the run as it left it."""
        self._store = store
        self._who = who
        self._asked_s = float("-inf")
        self.is_on = self.is_paused and self._is_ours(self._newest())
        """Whether the guard wants the run held."""

    @property
    def is_paused(self) -> bool:
        """Whether the run stands still, whoever asked for it."""
        state = self._store.state()
        return state is not None and state.state == RunState.PAUSED

    @property
    def holds(self) -> bool:
        """Whether the run stands still because of this guard."""
        return self.is_on and self.is_paused and self._is_ours(self._newest())

    def take(self, now_s: float) -> bool:
        """Want the run held; whether a pause is to be asked for now, by `ask` once it was told why.

        Somebody else's pause is as good, and stays theirs.
        """
        newest = self._newest()
        if newest is not None and newest.verb == "pause":
            is_ours = self._is_ours(newest)
            # A pause of a former life of the run holds nothing: its trainer started running.
            is_held = self.is_paused or any(open_.id == newest.id for open_ in self._store.open_commands())
            if is_held or (is_ours and self.is_on and now_s - self._asked_s < ASK_AGAIN_S):
                self.is_on = self.is_on or is_ours
                return False
        self.is_on, self._asked_s = True, now_s
        return True

    def ask(self) -> None:
        """Have the run saved and paused."""
        self._store.post_command("checkpoint", self._who)
        self._store.post_command("pause", self._who)

    def let_go(self) -> bool:
        """Want the run held no more; whether it may go on, by `resume`: a person's pause stays."""
        self.is_on = False
        return self._is_ours(self._newest())

    def resume(self) -> None:
        """Have the run go on."""
        self._store.post_command("resume", self._who)

    def _newest(self) -> CommandRow | None:
        found = self._store.rows(CommandRow, "WHERE verb IN ('pause', 'resume') ORDER BY id DESC LIMIT 1")
        return found[0] if found else None

    def _is_ours(self, command: CommandRow | None) -> bool:
        return command is not None and command.verb == "pause" and command.who == self._who
