"""Reads the source of the app for texts that people see: those that are translated, and those that are not.

A text is translated where it is an argument of `tr`, `trn` or `mark`, or stands where the app itself looks up what it
shows: the name and the tooltip of a key, the help of a screen, a panel or a command. Any other string that reads like
words, or that goes to the screen, is naked, unless it stands where only programs read it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeGuard

ROOT = Path(__file__).resolve().parents[2]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WRAPPERS = {"tr", "trn", "mark"}
HELD = {"HELP", "HELP_TEXT", "KEYS_EVERYWHERE"}
"""Names of class attributes and constants that are looked up where they are shown."""
HELD_ARGUMENTS = {"Binding": (2, "description", "tooltip"), "Column": (0, "label"), "option": (None, "help")}
"""Calls, the place of the argument that is looked up, and its names."""
TECHNICAL_CALLS = _words(
    """
    AssertionError PackageNotFoundError ParamSpec Theme TypeVar add_class argument cancel_group cast command
    compile decode encode endswith find getattr get has_class hasattr import_module index join_words open partition
    query query_one reactive remove_class removeprefix removesuffix replace rpartition rsplit run_action search
    set_class setattr split startswith strftime sub switch_mode version_option watch
    """
)
TECHNICAL_KEYWORDS = _words(
    """
    action classes css_path cursor_type default encoding envvar errors group id justify key key_display metavar name
    package_name param_decls param_hint restrict severity suggester type via
    """
)
TECHNICAL_NAMES = re.compile(
    r"(^|_)(CSS|CSS_PATH|MODE|AUTO_FOCUS|CLASSES|STYLE|PATTERN|CODES?|DOTS|BLOCKS)$|^__all__$"
)
SHOWING_CALLS = _words(
    """
    BadParameter Button CallFailed Content DetailPanel EngineError FactsPanel Gauge Label LineInput Option
    Static SystemCommand UsageError WordsPanel _bar_line _fact _row _say append_fact assemble confirm echo fact
    notify set_subtitle
    """
)
SHOWING_ATTRIBUTES = {"border_title", "border_subtitle", "placeholder", "trouble", "title", "sub_title"}
STYLES = _words(
    """
    AXIS BAD BLUE CURRENT DOUBTFUL ESTIMATE FAINT FOUND GOOD HEAT KEY MUTED ORANGE POWER STRONG TEXT TRAINING
    VALIDATION style
    """
)
NEUTRAL = _words(
    """
    pip install web
    CO2 CPU CSV Enter Esc GB GPU GeForce GiB JSON KiB MB MFU MiB NVIDIA PID PgDn PgUp RAM TB TRAINING TiB USD
    VRAM Wh az close csv ctrl json kB kWh kill llm md min nvml pid settings tok toml tui yes
    """
)
"""Words that are the same in every language, as long as nothing else stands beside them."""
_WORD = re.compile(r"[^\W\d_]{2,}")


class Text(NamedTuple):
    """A text that is translated."""

    msgid: str
    plural: str | None
    context: str | None
    place: str
    """File and line of its first use."""
    is_name: bool = False
    """Whether it is a title, a label or a reason of the engine's, and no sentence with figures."""


class Naked(NamedTuple):
    """A text that is shown and not translated."""

    path: Path
    node: ast.expr
    text: str
    """Its fixed words; holes are `{}`."""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.node.lineno}: {self.text!r}"


def app_files() -> list[Path]:
    """The source of the windows."""
    return sorted((ROOT / "tui").rglob("*.py"))


def called(node: ast.AST) -> str:
    """The last name of what is called; empty where it is no call of a name."""
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def is_wrapper(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether a text is translated, or said to be, here."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WRAPPERS


def literal(node: ast.AST) -> str | None:
    """The text of a string literal, None where it is none or has holes."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def fixed_words(node: ast.expr) -> str | None:
    """A string with `{}` for its holes, None where the node is no string."""
    if isinstance(node, ast.JoinedStr):
        return "".join(value if (value := literal(part)) is not None else "{}" for part in node.values)
    return literal(node)


class Source:
    """One module, its nodes with their parents."""

    def __init__(self, path: Path, source: str = "") -> None:
        self.path = path
        self.tree = ast.parse(source or path.read_text("utf-8"))
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around one, from within."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    # --- what is translated -------------------------------------------------------------------------------------

    def texts(self) -> Iterator[Text]:
        """Every text of the module that is translated."""
        for node in ast.walk(self.tree):
            place = f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if is_wrapper(node):
                yield from self._wrapped(node, place)
            elif (said := literal(node)) is not None and self.is_held(node):
                yield Text(said.strip("\n") if "\n" in said else said, None, None, place)
            elif isinstance(node, ast.FunctionDef) and self.is_command(node):
                for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                    yield Text(" ".join(paragraph.split()), None, None, place)

    @staticmethod
    def _wrapped(node: ast.Call, place: str) -> Iterator[Text]:
        if called(node) == "trn":
            one, many = literal(node.args[0]), literal(node.args[1])
            if one is None or many is None:
                raise ValueError(f"{place}: trn takes two literals, without an f")
            yield Text(one, many, None, place)
            return
        branches = [node.args[0]]
        if isinstance(node.args[0], ast.IfExp):
            branches = [node.args[0].body, node.args[0].orelse]
        for branch in branches:
            if isinstance(branch, (ast.JoinedStr, ast.BinOp)):
                raise ValueError(f"{place}: the text of {called(node)} is to be one literal, without an f")
            if said := literal(branch):
                yield Text(said, None, None, place)

    @staticmethod
    def is_command(node: ast.FunctionDef) -> bool:
        """Whether it is a command of the command line, whose docstring is its help."""
        return any(called(decorator) in ("command", "group") for decorator in node.decorator_list)

    def is_held(self, node: ast.AST) -> bool:
        """Whether a literal stands where the app looks up what it shows."""
        inner = node
        for outer in self.above(node):
            if isinstance(outer, ast.Call):
                place, *names = HELD_ARGUMENTS.get(called(outer), (None,))
                is_placed = place is not None and len(outer.args) > place and outer.args[place] is inner
                is_named = any(keyword is inner and keyword.arg in names for keyword in outer.keywords)
                return is_placed or is_named
            if isinstance(outer, (ast.Assign, ast.AnnAssign)):
                targets = outer.targets if isinstance(outer, ast.Assign) else [outer.target]
                return any(isinstance(target, ast.Name) and target.id in HELD for target in targets)
            if isinstance(outer, (ast.stmt, ast.JoinedStr, ast.IfExp, ast.Tuple)):
                return False
            inner = outer
        return False

    # --- what is not --------------------------------------------------------------------------------------------

    def naked(self) -> Iterator[Naked]:
        """Every string that people see and that is not translated."""
        for node in ast.walk(self.tree):
            if not isinstance(node, (ast.Constant, ast.JoinedStr)):
                continue
            words = fixed_words(node)
            if words is None or (
                isinstance(self.parents.get(node), (ast.JoinedStr, ast.FormattedValue))
                and (isinstance(node, ast.Constant))
                and isinstance(self.parents[node], ast.JoinedStr)
            ):
                continue
            told = [word for word in _WORD.findall(words) if word not in NEUTRAL]
            if told and not self.is_exempt(node) and (reads_like_words(words) or self.is_shown(node)):
                yield Naked(self.path, node, words)

    def is_exempt(self, node: ast.AST) -> bool:
        """Whether a string is translated, or only programs read it."""
        if self.is_held(node):
            return True
        inner = node
        for outer in self.above(node):
            if isinstance(outer, ast.Expr) and outer.value is inner:
                return True  # a docstring
            if isinstance(outer, ast.Call):
                name = called(outer)
                if is_wrapper(outer) or name in TECHNICAL_CALLS or outer.func is inner:
                    return True
                if name in HELD_ARGUMENTS:
                    return True
                if isinstance(inner, ast.keyword):
                    return inner.arg in TECHNICAL_KEYWORDS
                return False
            if isinstance(outer, ast.Compare) or (isinstance(outer, ast.Subscript) and outer.slice is inner):
                return True
            if isinstance(outer, ast.Dict) and inner in outer.keys:
                return True
            if isinstance(outer, (ast.arg, ast.AnnAssign)) and outer.annotation is inner:
                return True
            if isinstance(outer, ast.Assign) and re.fullmatch(r"[a-z-]+--[a-z-]+", fixed_words(node) or ""):
                return True  # a component class
            if isinstance(outer, (ast.Assign, ast.AnnAssign)):
                targets = outer.targets if isinstance(outer, ast.Assign) else [outer.target]
                return any(isinstance(t, ast.Name) and TECHNICAL_NAMES.search(t.id) for t in targets)
            if isinstance(outer, ast.FormattedValue):
                return outer.format_spec is inner
            if isinstance(outer, (ast.Assert, ast.Raise)) and isinstance(outer, ast.Assert):
                return True
            if isinstance(outer, ast.stmt):
                return False
            if isinstance(outer, ast.Subscript):
                return True
            inner = outer
        return False

    def is_shown(self, node: ast.AST) -> bool:
        """Whether a string goes to the screen, as far as the place tells where it stands."""
        inner = node
        for outer in self.above(node):
            if isinstance(outer, ast.Tuple):
                others = [part for part in outer.elts if part is not inner]
                chosen = [part.body if isinstance(part, ast.IfExp) else part for part in others]
                if any(isinstance(part, ast.Name) and part.id in STYLES for part in chosen):
                    return True
            elif isinstance(outer, ast.Call):
                is_title = isinstance(outer.func, ast.Attribute) and outer.func.attr == "__init__"
                return called(outer) in SHOWING_CALLS or is_title
            elif isinstance(outer, (ast.Assign, ast.AugAssign)):
                targets = outer.targets if isinstance(outer, ast.Assign) else [outer.target]
                return any(isinstance(t, ast.Attribute) and t.attr in SHOWING_ATTRIBUTES for t in targets)
            elif isinstance(outer, ast.stmt):
                return False
            inner = outer
        return False


def reads_like_words(text: str) -> bool:
    """Whether a string is a sentence, a heading or a few words, and no name that programs go by."""
    if re.fullmatch(r"[A-Z][a-z]+", text):
        return True
    return bool(re.search(r"[^\W\d_]{2,}[,.:;]? +[^\W\d_({]|[^\W\d_]{3,}, \{|[}\d)] +[^\W\d_]{2,}", text))


def texts() -> dict[tuple[str | None, str], Text]:
    """Every text of the app by its context and its English words, at its first place."""
    found: dict[tuple[str | None, str], Text] = {}
    for path in app_files():
        for text in Source(path).texts():
            if text.msgid.strip() and (text.context, text.msgid) not in found:
                found[text.context, text.msgid] = text
    return found


def naked() -> list[Naked]:
    """Every text of the app that is shown and not translated."""
    return [found for path in app_files() for found in Source(path).naked()]
