"""Where the run stands: its state in a word, how far it is, when it will be done, and what to press if it is ill."""

from __future__ import annotations

import time

from textual.events import Resize

from engine.records import ProgressRow, RunSnapshot, RunState
from tui import format as fmt
from tui.language import capitals, tr, trn
from tui.own_keys import key
from tui.verbs import state_sign, verb_word
from tui.widgets.lines import (
    BAD,
    DOUBTFUL,
    FAINT,
    MUTED,
    STRONG,
    TEXT,
    Line,
    Lines,
    crop,
    length,
    ruled,
    wrap,
)

_NUM_ROWS = 3
_MOST_NOTES, _MOST_NOTE_ROWS = 3, 2
"""Rows of all notes, and of one."""
_LEAST_RANGE_S = 120.0
"""A range of the end that is narrower says nothing in hours and minutes."""


class ProgressPanel(Lines):
    """Three rows, and up to three more with a reason where there is something to say."""

    DEFAULT_CSS = """
    ProgressPanel { height: 3; padding: 0 2; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._snapshot: RunSnapshot | None = None
        self._trouble = ""
        self._asked = ""

    def show(self, snapshot: RunSnapshot | None, trouble: str = "", asked: str = "") -> None:
        """Show another state; `trouble` is why nothing new can be read, `asked` the verb that awaits its answer."""
        self._snapshot, self._trouble, self._asked = snapshot, trouble, asked
        self._fit()
        self.redraw()

    def on_resize(self, event: Resize) -> None:
        """The notes wrap anew."""
        self._fit()

    def _fit(self) -> None:
        """As many rows as there is to say."""
        has_notes = self._snapshot is not None and self.size.width > 0
        num_rows = _NUM_ROWS + (len(self._notes(self.size.width)) if has_notes else 0)
        if self.outer_size.height != num_rows:
            self.styles.height = num_rows

    def draw(self, width: int, height: int) -> list[Line]:
        """State and name, the bar, the numbers, the notes."""
        snapshot = self._snapshot
        if snapshot is None:
            return self._notes(width)[:_NUM_ROWS]
        sign, word, style = state_sign(snapshot.status, snapshot.is_stale)
        left: Line = [(f"{sign} {capitals(word)}", style)]
        if (phase := self._phase(snapshot)) and phase != word:
            left.append((f"  {phase}", TEXT))
        device = fmt.clean(snapshot.plan.device.name)
        parameters = fmt.count(snapshot.plan.shape.parameters)
        right: Line = crop(
            [
                (snapshot.status.id, MUTED),
                (tr("  {parameters} on {device}", parameters=parameters, device=device), FAINT),
            ],
            max(0, width - length(left) - 2),
        )
        rows = [ruled(left, right, width), _bar(snapshot, width, style), _numbers(snapshot, width)]
        return [*rows, *self._notes(width)]

    def _phase(self, snapshot: RunSnapshot) -> str:
        """What it is doing; nothing where the numbers say so already."""
        if self._asked:
            return tr("{verb} asked, waiting", verb=verb_word(self._asked))
        is_told = snapshot.ramp or (
            snapshot.status.state is RunState.PREPARING and snapshot.progress is not None
        )
        if is_told or snapshot.is_stale or snapshot.status.state.is_over:
            return ""
        return fmt.said(snapshot.phase)

    def _notes(self, width: int) -> list[Line]:
        """A few rows: what is the matter, and what to press."""
        if self._snapshot is None:
            told = [(self._trouble, DOUBTFUL) if self._trouble else (tr("Reading the run …"), MUTED)]
        else:
            told = [(self._trouble, DOUBTFUL)] if self._trouble else _notices(self._snapshot)
        rows = [[(row, style)] for text, style in told for row in _at_most(wrap(text, width), width)]
        one: Line = [(" " * bool(at) + text, style) for at, (text, style) in enumerate(told)]
        return [one] if told and length(one) <= width else rows[:_MOST_NOTES]


def _at_most(rows: list[str], width: int) -> list[str]:
    """The first rows of a note, with an ellipsis where it goes on."""
    if len(rows) <= _MOST_NOTE_ROWS:
        return rows
    return [*rows[: _MOST_NOTE_ROWS - 1], rows[_MOST_NOTE_ROWS - 1][: width - 1] + "…"]


def _notices(snapshot: RunSnapshot) -> list[tuple[str, str]]:
    """What is the matter, and what to do about it."""
    status = snapshot.status
    reason = fmt.said(status.reason or "")
    resume, log = key("run.resume"), key("app.log")
    go_on = tr(
        "Press {key} to go on from the newest checkpoint; {log} shows its output.", key=resume, log=log
    )
    if snapshot.is_stale:
        silent = (
            tr("Silent for {duration}", duration=fmt.duration(snapshot.silent_s))
            if snapshot.silent_s is not None
            else tr("Never answered")
        )
        if status.state is RunState.FAILED:
            return [(tr("{silent}: its supervisor is gone.", silent=silent), BAD), (go_on, TEXT)]
        last_words = tr("It may wait for the disk, or sleep; {log} shows its last words.", log=log)
        return [
            (tr("{silent}: these are the last numbers known.", silent=silent), DOUBTFUL),
            (last_words, TEXT),
        ]
    if status.state is RunState.PAUSED:
        told = tr("{reason} Press {key} to go on.", reason=reason or tr("Paused."), key=key("run.unpause"))
        return [(told, TEXT)]
    if status.state is RunState.FAILED:
        return [(reason or tr("No reason was given."), BAD), (go_on, TEXT)]
    if status.state is RunState.STOPPED:
        onwards = tr("Press {key} to go on from the newest checkpoint.", key=resume)
        return [(reason or tr("Stopped."), TEXT), (onwards, TEXT)]
    if status.state is RunState.FINISHED:
        model = tr(
            "The model is in {folder}; {samples} lets it speak, {ledger} shows what it cost.",
            folder=f"runs/{status.id}/model",
            samples=key("app.samples"),
            ledger=key("app.ledger"),
        )
        return [*([(reason, TEXT)] if reason else []), (model, TEXT)]
    return []


def _bar(snapshot: RunSnapshot, width: int, style: str) -> Line:
    """How far it is, in the colour of its state, and how long it still takes."""
    frac, status = _done_frac(snapshot), snapshot.status
    right: Line = [(f" {fmt.percent(frac)}".rjust(8), STRONG)]
    if status.eta_s is not None and not snapshot.is_stale:
        right.append((tr("  {duration} left", duration=fmt.duration(status.eta_s)), STRONG))
    room = max(1, width - length(right))
    eighths = round(min(1.0, frac or 0) * room * 8)
    full, part = divmod(eighths, 8)
    bar = "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")
    return [(bar, style), ("─" * (room - len(bar)), FAINT), *right]


def _done_frac(snapshot: RunSnapshot) -> float | None:
    progress, status = snapshot.progress, snapshot.status
    if snapshot.ramp:
        return None
    if status.state is RunState.PREPARING and progress is not None:
        return progress.done_bytes / progress.total_bytes if progress.total_bytes else None
    return (status.tokens or 0) / status.tokens_total if status.tokens_total else None


def _numbers(snapshot: RunSnapshot, width: int) -> Line:
    status, progress = snapshot.status, snapshot.progress
    if snapshot.ramp:
        return _ramp_numbers(snapshot, width)
    if status.state is RunState.PREPARING:
        if progress is None:
            return [(tr("preparing the corpus "), MUTED), (fmt.clean(snapshot.corpus), TEXT)]
        done = tr(
            "{done} of {total}",
            done=fmt.size_decimal(progress.done_bytes),
            total=fmt.size_decimal(progress.total_bytes),
        )
        speed = (
            ""
            if progress.bytes_per_s is None
            else f"{fmt.size_decimal(progress.bytes_per_s)}/s{_left(progress)}"
        )
        name = {"tokenizer": tr("training the tokenizer"), "tokens": tr("turning text into tokens")}.get(
            progress.kind, fmt.said(progress.kind)
        )
        return ruled([(f"{name}: ", MUTED), (done, TEXT)], [(speed, STRONG)], width)
    step = fmt.UNKNOWN if status.step is None else str(status.step)
    left: Line = [
        (fmt.count(status.tokens), STRONG),
        (tr(" of {tokens} tokens", tokens=fmt.count(status.tokens_total)), MUTED),
    ]
    is_moving = status.state is RunState.RUNNING and not snapshot.is_stale
    speed = f"  {fmt.count(status.tokens_per_second)}/s" if is_moving else ""
    used = (
        tr("  {share} of peak", share=fmt.percent(status.mfu_frac))
        if is_moving and status.mfu_frac is not None
        else ""
    )
    epoch = tr("  epoch {epochs}", epochs=epochs(snapshot)) if snapshot.corpus_tokens else ""
    whens = _when(snapshot)
    fixed = length(left) + len(speed) + 2
    when = next((line for line in whens if fixed + length(line) <= width), whens[-1])
    for piece, style in (
        (speed, STRONG),
        (tr("  step {step}/{steps}", step=step, steps=status.steps), MUTED),
        (epoch, MUTED),
        (used, MUTED),
    ):
        if length(left) + len(piece) + length(when) + 2 <= width:
            left.append((piece, style))
    return ruled(left, when, width)


def _left(progress: ProgressRow) -> str:
    """What preparing the text still takes at this speed; nothing where that is unknown."""
    if not progress.bytes_per_s or progress.total_bytes is None:
        return ""
    return tr(
        "  {duration} left",
        duration=fmt.duration((progress.total_bytes - progress.done_bytes) / progress.bytes_per_s),
    )


def epochs(snapshot: RunSnapshot) -> str:
    """How often the text was read so far, of how often it will have been."""
    size, status = snapshot.corpus_tokens, snapshot.status
    if not size:
        return fmt.UNKNOWN
    read = None if status.tokens is None else status.tokens / size
    return f"{fmt.number(read, 2)}/{fmt.number(status.tokens_total / size, 2)}"


def _ramp_numbers(snapshot: RunSnapshot, width: int) -> Line:
    """What the batch ramp is at, and the best speed so far."""
    chosen = next((row for row in snapshot.ramp if row.is_chosen), None)
    newest = chosen or snapshot.ramp[-1]
    fastest = max((row.tokens_per_s for row in snapshot.ramp if row.tokens_per_s), default=None)
    sequences = trn("{num} sequence at a time", "{num} sequences at a time", newest.micro_batch)
    right: Line = []
    if fastest is not None:
        right = [(tr("{speed} tokens/s", speed=fmt.count(fastest)), STRONG), (tr(" at best"), MUTED)]
    word = tr("batch size: tried up to ")
    if chosen or newest.state == "trying":
        word = tr("batch size: ") if chosen else tr("batch size: trying ")
    return ruled([(word, MUTED), (sequences, TEXT)], right, width)


def _when(snapshot: RunSnapshot) -> list[Line]:
    """When it is done, the longest way of saying it first."""
    status = snapshot.status
    if status.state.is_over:
        return [[(tr("took "), MUTED), (fmt.duration(status.elapsed_s), STRONG)]]
    if status.eta_s is None or snapshot.is_stale:
        return [[(tr("{duration} so far", duration=fmt.duration(status.elapsed_s)), MUTED)]]
    now = time.time()
    at: Line = [(tr("done "), MUTED), (fmt.clock(now + status.eta_s, now), STRONG)]
    low_s, high_s = snapshot.eta_low_s, snapshot.eta_high_s
    if low_s is None or high_s is None or high_s - low_s < _LEAST_RANGE_S:
        return [at]
    between = fmt.clock_range(now + low_s, now + high_s, now)
    return [[*at, (f" ({between})", MUTED)], at]
