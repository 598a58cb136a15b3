"""How the app feels: keys of one's own, looks on poor terminals, a viewer that only reads, the palette, the browser."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.theme import BUILTIN_THEMES

from engine import settings_file
from engine.appearance import read_appearance
from engine.errors import EngineError
from tests.tui.piloted import opened, text, until
from tests.tui.recorded import RUN_ID, RecordedBridge, in_state
from tui import follower
from tui.app import LlmTui
from tui.bridge import Bridge
from tui.charset import CharacterFilter
from tui.dialogs.confirm import StopRunDialog
from tui.dialogs.help import HelpDialog
from tui.keymap import known_bindings, resolve
from tui.looks import ASCII, CONSOLE, UNICODE, characters_of
from tui.modes import MODES
from tui.own_keys import DEFAULTS


def with_ui(bridge: RecordedBridge, ui: str) -> RecordedBridge:
    text = bridge.settings_path.read_text("utf-8")
    bridge.settings_path.write_text(text[: text.index("\n[ui]")] + f"\n[ui]\n{ui}\n", "utf-8")
    settings_file.load(bridge.settings_path)
    return bridge


# --- keys -----------------------------------------------------------------------------------------------------


async def test_a_key_of_ones_own_works_and_is_told_everywhere() -> None:
    bridge = with_ui(RecordedBridge(in_state("running")), '[ui.keys]\nrun.pause = "P"\nrun.stop = "ctrl+x"')
    async with opened(bridge, (120, 34)) as (app, pilot):
        await until(pilot, lambda: app.own_keys)
        assert app.own_keys["run.unpause"] == "P", "what shares the key by design goes along"
        await pilot.press("p")
        await pilot.pause(0.1)
        assert not bridge.asked, "the old key does nothing any more"
        await until(pilot, lambda: "P Pause" in text(app))
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpDialog))
        await until(pilot, lambda: "  P    pause, and go on" in text(app))
        await pilot.press("escape")
        await pilot.press("P")
        await until(pilot, lambda: bridge.asked == [(RUN_ID, "pause")])


async def test_sentences_name_the_key_of_ones_own() -> None:
    bridge = with_ui(RecordedBridge(in_state("paused")), '[ui.keys]\nrun.unpause = "P"')
    async with opened(bridge, (120, 34)) as (_, pilot):
        app = pilot.app
        await until(pilot, lambda: "Press P to go on." in text(app))


def test_sentences_name_the_keys_that_are_bound() -> None:
    bound = {each.id: each.keys for each in known_bindings()}
    screens = {f"app.{mode.name}": (str(number),) for number, mode in enumerate(MODES, start=1)}
    for name, told in DEFAULTS.items():
        assert told in (bound | screens)[name], name


async def test_keys_that_cannot_be_are_told_with_what_is_near() -> None:
    ui = '[ui.keys]\nrun.puase = "P"\nrun.stop = "c"\nlog.next = "pgdown"'
    async with opened(with_ui(RecordedBridge(in_state("running")), ui), (120, 34)) as (app, pilot):
        await until(pilot, lambda: len(app._notifications) == 3)
        told = "\n".join(note.message for note in app._notifications)
        assert "run.puase" in told and "Did you mean run.pause?" in told
        assert "c is run.checkpoint already" in told
        assert "pgdown is no key. Did you mean pagedown?" in told
        assert app.own_keys == {}


def test_keys_may_change_places_but_not_shadow_each_other() -> None:
    swapped = resolve({"run.pause": "c", "run.unpause": "c", "run.checkpoint": "p"})
    assert not swapped.problems and swapped.keys["run.checkpoint"] == "p"
    assert resolve({"app.quit": "p"}).problems, "p is of a screen, where q would then do nothing"
    assert not resolve({"preflight.start": "S"}).problems, "S is of tables, of which this screen has none"
    assert "command palette" in resolve({"app.help": "ctrl+p"}).problems[0]
    assert not resolve({"rows.down": "j,down,ctrl+n"}).problems
    names = [bound.id for bound in known_bindings()]
    assert len(names) > 60 and "help.close" in names


async def test_an_unknown_theme_is_told_and_a_chosen_one_is_kept() -> None:
    bridge = with_ui(RecordedBridge(), 'theme = "nordic"  # mine')
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: any("'nordic' is no theme" in n.message for n in app._notifications))
        assert app.theme == "llm-tui-night"
        app.theme = "nord"
        await until(pilot, lambda: read_appearance(bridge.settings_path).theme == "nord")
    assert 'theme = "nord"  # mine' in bridge.settings_path.read_text("utf-8")
    async with opened(bridge) as (app, _):
        assert app.theme == "nord" and app.theme in BUILTIN_THEMES


def test_the_looks_are_read_from_the_file_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    shipped = settings_file.template()
    for written, theme, keys in (
        (shipped, "", {}),
        (shipped.replace("llm-tui-night", "nord"), "nord", {}),
        (shipped + '\n[ui.keys]\nrun.pause = "P"\n', "llm-tui-night", {"run.pause": "P"}),
        ('ui.theme = "nord"\n', "nord", {}),
        ('[ui]\nkeys = {"run.pause" = "P"}\n', "", {"run.pause": "P"}),
        ("[ui]\ntheme = 3\n", "", {}),
        ("not toml [", "", {}),
    ):
        path.write_text(written, "utf-8")
        found = read_appearance(path)
        assert (found.theme, dict(found.keys)) == (theme, keys), written[-80:]
    assert read_appearance(tmp_path / "none").theme == ""


# --- looks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "wanted", "characters"),
    [
        ({"LC_ALL": "C"}, "auto", ASCII),
        ({"LANG": "POSIX"}, "auto", ASCII),
        ({"LANG": "az_AZ.ISO-8859-9E", "TERM": "linux"}, "auto", ASCII),
        ({"LC_ALL": "C.UTF-8"}, "auto", UNICODE),
        ({"LC_ALL": "", "LC_CTYPE": "en_US.utf8", "LANG": "C"}, "auto", UNICODE),
        ({}, "auto", UNICODE),
        ({"LANG": "de_DE.UTF-8@euro", "TERM": "linux"}, "auto", CONSOLE),
        ({"LC_ALL": "C"}, "unicode", UNICODE),
        ({"LANG": "en_US.UTF-8"}, "ascii", ASCII),
    ],
)
def test_what_a_terminal_can_show(environ: dict[str, str], wanted: str, characters: str) -> None:
    assert characters_of(environ, wanted) == characters


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5", "6", "7", "8", "question_mark"])
async def test_every_screen_in_ascii_has_the_same_cells(key: str) -> None:
    def both(app: LlmTui) -> tuple[list[str], list[str]]:
        strips = app.screen._compositor.render_strips()
        return [strip.text for strip in strips], [str(strip.cell_length) for strip in strips]

    shown = {}
    for ui in ('characters = "unicode"', 'characters = "ascii"'):
        async with opened(with_ui(RecordedBridge(in_state("gpu")), ui)) as (app, pilot):
            await pilot.press(key)
            await pilot.pause(0.3)
            shown[ui] = both(app)
    (before, _), (after, widths) = shown.values()
    assert not all(line.isascii() for line in before)
    assert all(line.isascii() for line in after), [line for line in after if not line.isascii()]
    assert set(widths) == {"80"}


async def test_without_colours_the_cursor_is_told_by_reversed_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with opened(RecordedBridge()) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: "preset" in text(app))
        await pilot.press("j")
        await until(pilot, lambda: "model.vocab_size" in text(app))
        segments = [s for strip in app.screen._compositor.render_strips() for s in strip if s.style]
        assert not [s for s in segments if s.style and (s.style.color or s.style.bgcolor)]
        marked = [s.text.strip() for s in segments if s.style and s.style.reverse]
        assert any("Settings" in text for text in marked) and any("vocab_size" in text for text in marked)


def test_signs_stay_apart_in_ascii() -> None:
    from rich.segment import Segment
    from textual.color import Color

    def shown(text: str, has_lines: bool = False) -> str:
        return CharacterFilter(has_lines).apply([Segment(text)], Color(0, 0, 0))[0].text

    verdicts = [shown(sign) for sign in "✓!✗~–"]
    assert len(set(verdicts)) == 5
    assert len({shown(sign) for sign in "◌●‖✓■✗?"}) == 7, "the states of a run"
    assert shown("Təlim çoxdur") == "Telim coxdur" and shown("漢字") == "????"
    assert shown("─│█√", has_lines=True) == "─│█√" and shown("╭╯✓⠒", has_lines=True) == "┌┘√-"


# --- reading alone --------------------------------------------------------------------------------------------


async def test_a_read_only_viewer_offers_and_does_nothing_that_changes() -> None:
    bridge = RecordedBridge(in_state("running"))
    app = LlmTui(Path("/home/ana/gpt"), bridge, is_read_only=True)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.current_mode == "run" and app.snapshot is not None)
        await pilot.pause(0.1)
        assert "read-only" in text(app).splitlines()[0]
        assert "Pause" not in text(app).splitlines()[-1] and "Detach" in text(app).splitlines()[-1]
        for key in ("p", "c", "x"):
            await pilot.press(key)
        await pilot.pause(0.1)
        assert not bridge.asked and not isinstance(app.screen, StopRunDialog)
        await pilot.press("1")
        await pilot.press("r", "s")
        await pilot.pause(0.1)
        assert not bridge.started
        await pilot.press("6")
        await pilot.pause(0.2)
        await pilot.press("j", "enter")
        await pilot.pause(0.1)
        assert not app.screen.query_one("#value").has_class("-open")  # type: ignore[attr-defined]


def test_the_bridge_refuses_a_reader_whatever_the_screens_ask(tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    bridge = Bridge(folder, is_read_only=True)
    calls = [
        bridge.write_settings,
        lambda: bridge.start({}),
        lambda: bridge.ask("x", "stop"),
        lambda: bridge.apply_remedy("write-settings"),
        lambda: bridge.check_argv({}),
        lambda: bridge.keep_theme("nord"),
    ]
    for call in calls:
        with pytest.raises(EngineError, match="read-only"):
            call()
    assert not list(folder.iterdir()) and bridge.look("x") is None
    words = (
        "write",
        "save",
        "start",
        "ask",
        "close",
        "apply",
        "delete",
        "archive",
        "tag",
        "rename",
        "export",
    )
    for name, call in vars(Bridge).items():
        if name.startswith(words):
            assert hasattr(call, "__wrapped__"), f"Bridge.{name} changes something: mark it @writing"


async def test_a_viewer_of_another_version_says_so() -> None:
    bridge = RecordedBridge(replace(in_state("running"), version="0.0.9"))
    async with opened(bridge, (120, 34)) as (app, pilot):
        await until(pilot, lambda: "run by 0.0.9" in text(app).splitlines()[0])


# --- the palette ----------------------------------------------------------------------------------------------


async def test_the_palette_has_every_screen_and_every_verb() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        titles = {command.title for command in app.get_system_commands(app.screen)}
        assert {"Preflight", "Settings", "Log", "Pause", "Save", "Stop", "Detach", "Zoom"} <= titles
        await pilot.press("8")
        await until(pilot, lambda: app.current_mode == "log")
        await until(pilot, lambda: app.runs)
        commands = {command.title: command for command in app.get_system_commands(app.screen)}
        assert {"Stop following", "Copy", "Search", "Pause the run", "Stop the run"} <= set(commands)
        commands["Pause the run"].callback()
        await until(pilot, lambda: bridge.asked == [(RUN_ID, "pause")])
        commands["Stop the run"].callback()
        await until(pilot, lambda: isinstance(app.screen, StopRunDialog))


# --- the browser ----------------------------------------------------------------------------------------------


def test_who_may_talk_to_the_web_server() -> None:
    from tui.web import is_own

    assert is_own("127.0.0.1", "localhost:9", "http://localhost:9")
    assert is_own("127.0.0.1", "127.0.0.1:8642", None)
    assert not is_own("127.0.0.1", "127.0.0.1:8642", "http://evil.example")
    assert not is_own("127.0.0.1", "evil.example:8642", "http://evil.example:8642"), "a name that leads here"
    assert is_own("0.0.0.0", "gpu.lan:8642", "http://gpu.lan:8642")
    assert not is_own("0.0.0.0", "gpu.lan:8642", "null")


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['textual_serve'] = None\n"
        f"sys.argv = ['llm-tui', '--workspace', {str(tmp_path)!r}, 'web']\n"
        "from tui.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "pip install 'llm-tui[web]'" in done.stderr
    assert "Traceback" not in done.stderr


async def until_listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


async def test_a_browser_gets_the_app_and_a_foreign_page_nothing(tmp_path: Path) -> None:
    import aiohttp

    settings_file.write_template(tmp_path)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    argv = [sys.executable, "-m", "tui", "--workspace", str(tmp_path), "--read-only", "web", f"--port={port}"]
    process = subprocess.Popen(
        argv, stderr=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    try:
        assert process.stderr is not None
        line = await asyncio.to_thread(process.stderr.readline)
        assert f"http://127.0.0.1:{port}" in line
        await until_listening(port)
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}"
            async with session.get(url, headers={"Host": f"localhost:{port}"}) as page:
                assert page.status == 200 and f"ws://localhost:{port}/ws" in await page.text()
            async with session.get(url, headers={"Host": "evil.example"}) as page:
                assert page.status == 403
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(f"{url}/ws", headers={"Origin": "http://evil.example"})
            async with session.ws_connect(
                f"{url}/ws?width=100&height=30", headers={"Origin": url}
            ) as socket_:
                seen = b""
                async with asyncio.timeout(60):
                    while b"read-only" not in seen:
                        message = await socket_.receive()
                        seen += message.data if isinstance(message.data, bytes) else b""
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait, 30)


def test_a_viewer_that_takes_much_of_the_processor_reads_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "MOST_FRAC", 0.01)
    used_s = iter((0.0, 0.002, 0.004, 0.024, 0.044, 0.064, 1.0, 1.02, 9.0, 18.0, 27.0))
    monkeypatch.setattr(follower.time, "process_time", lambda: next(used_s))
    pace = follower.Pace()
    waits = [pace.wait_s(1.0) for _ in range(10)]
    # Quick; then 20 ms a reading, once three took that; one burst of keys changes nothing; at most three times as long.
    assert waits == pytest.approx([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0])
