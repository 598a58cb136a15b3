"""Reads the source of the engine for what it says to people: sentences with numbered holes for their figures."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.catalogue.scan import ROOT, Text, called, literal, reads_like_words

CONTEXT = "engine"
SAYING_CALLS = {"CheckStep", "Figure", "Meta"}
"""What they are given is shown, one word too."""
_SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|CREATE|PRAGMA|DELETE|WHERE|ORDER BY)\b")
FOR_PROGRAMS = {
    *(
        "echo held; exec cat > /dev/null",
        "--why=A training run is going on",
        "Package id 0",
        "model name",
        "cpu model",
    ),
    *(
        "DefaultCPUAllocator: can't allocate memory",
        "CUDA error: out of memory",
        "llm-tui: this key is left out",
    ),
    *("prove comes first", "begin comes first", "a cache is filled by one prompt, then by single tokens"),
    *("the last stage always has an outcome", "agree raises where there is none"),
}
_FOR_PROGRAMS = re.compile(r"json_each|^\[\[|^# |^module 'engine'|^usage: |%s|^none: ")
SILENT = frozenset(
    (
        "engine/sqlite.py",
        "engine/ledger/card.py",
        "engine/ledger/training_md.py",
        "engine/ledger/markdown.py",
        "engine/ledger/report.py",
        "engine/runs/metrics.py",
        "engine/runs/news.py",
    )
)
"""What is no text for people, and documents for others, which are in English: TRAINING.md, a model's card, news."""


PUT_TOGETHER = (
    *(
        f"a {whole}number {bound} {{0}} to {{1}}{auto}"
        for whole in ("", "whole ")
        for bound in ("from", "above")
        for auto in ("", ' or "auto"')
    ),
    *(
        "measured, {0} °C",
        "estimated, {0} W",
        "partly measured, {0} W",
        "absent",
        "{0} are to stay free.",
        "{0}, {1}{2}, trains in {3} on {4} threads",
        "{0}, compute capability {1}, driver {2} for CUDA up to {3}, torch {4} built for CUDA {5}, trains in {6}.",
        "a rehearsal",
        "Saved {0}.",
        "{0} to close: {1}; {2} to leave open: {3}.",
        "None to close; {0} to leave open: {1}.",
        "{0} times in a row without a new checkpoint",
        "Tried {0}: works, but slower, {1} tokens/s, at most {2} of {3}.",
        " ({0} GiB {1} min ago)",
        "starting it again from its newest good checkpoint in {0} s",
        "{0} (pid {1}, {2}, {3} GPU memory, open for {4})",
        "{0} (pid {1}, {2}, no GPU memory, open for {3})",
        "Tried {0}: {1}, {2} tokens/s, at most {3} of {4}.",
        "Tried {0}: {1}, {2} tokens/s, at most {3}.",
        "Tried {0}: {1}.",
        "{0} at a time, {1} recomputed",
        "{0} blocks",
        "1 block",
        "less than a minute {0}",
        "the run takes {0}",
        "the run takes {0} at the {1} tokens/s that {2} measured",
        "the rest of the run takes {0}",
        "{0} {1} a kWh",
        "else {0} {1} a kWh",
        "{0} checkpoint",
        "{0} checkpoints",
        "cloud.offers in settings.toml",
    ),
    *("a text in quotes or a list of texts", "tables", "a table"),
)
"""What the engine puts together from parts that say nothing by themselves: the ranges of settings."""
WORDS = (
    *("weights", "gradients", "optimizer", "activations", "logits", "workspace"),
    *(
        "measured",
        "estimate",
        "partly measured",
        "integrated",
        "battery",
        "counter",
        "rehearsal",
        "formula",
        "unknown",
    ),
    *("starting", "checking", "loading", "tokenizing", "compiling", "evaluating", "saving"),
    *("info", "warning", "error", "supervisor", "trainer", "corpus", "output", "tokenizer", "tokens", "ramp"),
    *(
        "checkpoint-failed",
        "trainer-refused",
        "checkpoint-damaged",
        "compile-failed",
        "non-finite",
        "out-of-memory",
    ),
    *(
        "rolled-back",
        "trainer-left",
        "peak-unknown",
        "ramp-size",
        "tokens",
        "archive",
        "delete",
        "Theme",
        "Keys",
        "Quit",
        "Screenshot",
    ),
    *("Maximize", "Minimize", "Change the current theme", "Quit the application as soon as possible"),
    *(
        "Show help for the focused widget and a summary of available keys",
        "Hide the keys and widget help panel",
    ),
    *("Maximize the focused widget", "Minimize the widget and restore to normal size"),
    "Save an SVG 'screenshot' of the current screen",
)
"""Names of the engine's, and commands of Textual's palette, that the windows look up where they show them."""


def pattern(node: ast.AST) -> str | None:
    """A string with `{0}`, `{1}` and so on for its holes, None where the node is no string."""
    if isinstance(node, ast.JoinedStr):
        said, num = "", 0
        for part in node.values:
            if (fixed := literal(part)) is not None:
                said += fixed.replace("{", "{{").replace("}", "}}")
            else:
                said += f"{{{num}}}"
                num += 1
        return said
    return literal(node)


def is_docstring(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a string says what the code is, to who reads the code."""
    return isinstance(parents.get(node), ast.Expr)


def sentences(path: Path) -> Iterator[Text]:
    """What a module may say to people."""
    tree = ast.parse(path.read_text("utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        said = pattern(node)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Settings"):
            about = (ast.get_docstring(node) or "").splitlines()[0]
            yield Text(about, None, CONTEXT, str(path.relative_to(ROOT)), is_name=True)
        if said is None or isinstance(parents.get(node), ast.JoinedStr) or is_docstring(node, parents):
            continue
        if is_said(node, said, parents):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            yield Text(said, None, CONTEXT, place, is_name(node, parents))


def is_name(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether it is the title of a check, the label of a figure or the reason of a setting."""
    outer = parents.get(node)
    if isinstance(outer, ast.keyword):
        return outer.arg in ("title", "label", "description") and called(parents[outer]) in SAYING_CALLS
    return False


def is_said(node: ast.AST, said: str, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether it reads like words, or is handed to what speaks to people."""
    words = re.sub(r"\{\d+\}", "{}", said)
    if (
        said in FOR_PROGRAMS
        or _FOR_PROGRAMS.search(words)
        or _SQL.search(words)
        or not re.search(r"[a-z]{2}", words)
    ):
        return False
    outer = parents.get(node)
    if isinstance(outer, ast.keyword):
        if outer.arg in (
            "id",
            "unit",
            "kind",
            "encoding",
            "pattern",
            "name",
            "help",
            "metavar",
            "usage",
            "cwd",
            "source",
        ):
            return False
        outer = parents.get(outer)
    if outer is not None and called(outer) in SAYING_CALLS:
        return True
    return " " in said.strip() and reads_like_words(words)


def words() -> dict[tuple[str | None, str], Text]:
    """The single words that the windows look up."""
    return {(None, word): Text(word, None, None, "tests/catalogue/engine.py") for word in WORDS}


def texts() -> dict[str, Text]:
    """Every text that the engine may show to people, by its words."""
    place = "engine/settings_file.py"
    found = {said: Text(said, None, CONTEXT, place, is_name=True) for said in PUT_TOGETHER}
    for path in sorted((ROOT / "engine").rglob("*.py")):
        if str(path.relative_to(ROOT)) not in SILENT:
            for text in sentences(path):
                found.setdefault(text.msgid, text)
    return found
