"""Two languages: every text has its translation, none is shown without one, and what programs read never changes."""

from __future__ import annotations

import gettext
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.settings import Settings
from engine.settings_edit import read_form
from tests.catalogue import book, engine, scan
from tests.tui.piloted import until
from tests.tui.recorded import RecordedBridge, checks, in_state
from tui import format as fmt
from tui import language
from tui.app import LlmTui
from tui.cli import main
from tui.dialogs.help import HelpDialog
from tui.widgets.header_line import HeaderLine

HOLES = re.compile(r"\{\w*")
FIGURES = re.compile(r"\d+")


@pytest.fixture(autouse=True)
def _english_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LANGUAGE", "")
    yield
    language.use("en")
    gettext.textdomain("messages")


# --- the catalogue ----------------------------------------------------------------------------------------------


def test_no_text_is_shown_without_a_translation() -> None:
    found = [str(naked) for naked in scan.naked()]
    assert not found, "put these through tr(), or mark() where they are looked up later:\n" + "\n".join(found)


def test_the_scan_finds_what_it_is_for() -> None:
    path = scan.ROOT / "tui" / "naked_example.py"
    source = scan.Source(
        path,
        'NAMES = ("ok",)\n'
        'def show(self, n):\n    """A docstring that is long."""\n'
        '    self.notify("Not saved")\n'
        '    self.border_title = f"Log of {n}"\n'
        '    rows = [("loss", MUTED), (tr("said"), TEXT)]\n'
        '    self.query_one("#some thing")\n'
        '    return f"{n} tokens"\n',
    )
    assert {naked.text for naked in source.naked()} == {"Not saved", "Log of {}", "{} tokens", "loss"}
    assert [text.msgid for text in source.texts()] == ["said"]
    with pytest.raises(ValueError, match="without an f"):
        list(scan.Source(path, 'tr(f"{n} of them")').texts())


@pytest.mark.parametrize("name", book.LANGUAGES)
def test_every_text_of_the_windows_is_translated(name: str) -> None:
    catalogue = {book.key_of(message): message for message in book.load(name) if message.id}
    wanted = engine.words() | scan.texts()
    missing = [
        f"{text.place}: {msgid!r}" for (_, msgid), text in wanted.items() if (None, msgid) not in catalogue
    ]
    empty = [
        msgid
        for (context, msgid), message in catalogue.items()
        if context is None and (message.fuzzy or not all(book.strings(message)))
    ]
    assert not missing and not empty, f"run python -m tests.catalogue and translate: {missing + empty}"


@pytest.mark.parametrize("name", book.LANGUAGES)
def test_what_the_engine_says_by_name_is_translated_and_most_of_its_sentences(name: str) -> None:
    catalogue = {book.key_of(message): message for message in book.load(name) if message.id}
    wanted = engine.texts()
    open_ones = [msgid for msgid in wanted if not _is_translated(catalogue.get((engine.CONTEXT, msgid)))]
    by_name = [msgid for msgid in open_ones if wanted[msgid].is_name]
    assert not by_name, f"titles of checks, labels of figures and reasons of settings: {by_name}"
    assert len(open_ones) < 0.12 * len(wanted), f"{len(open_ones)} of {len(wanted)} sentences: {open_ones}"


def _is_translated(message: object) -> bool:
    return message is not None and all(book.strings(message))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", book.LANGUAGES)
def test_translations_have_the_holes_and_the_keys_of_their_texts(name: str) -> None:
    for message in book.load(name):
        ids = message.id if isinstance(message.id, tuple) else (message.id,)
        for english, said in zip(ids, book.strings(message), strict=True):
            if said and message.id:
                assert sorted(HOLES.findall(english)) == sorted(HOLES.findall(said)), english
                assert english.startswith(" ") == said.startswith(" "), english
                if "\n" in english and message.context is None:
                    keys = [re.findall(r"^  (\S+)", text, re.MULTILINE) for text in (english, said)]
                    assert len(keys[0]) == len(keys[1]), english


@pytest.mark.parametrize("name", book.LANGUAGES)
def test_the_compiled_catalogue_is_the_written_one(name: str) -> None:
    with book.mo_path(name).open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message in book.load(name):
        if message.id and all(book.strings(message)):
            context, msgid = book.key_of(message)
            said = compiled.pgettext(context, msgid) if context else compiled.gettext(msgid)
            if isinstance(message.id, tuple):
                said = compiled.ngettext(*message.id, 1)
            assert said == book.strings(message)[0], "run python -m tests.catalogue"


# --- which language ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "az_AZ.UTF-8"}, "az"),
        ({"LANG": "az"}, "az"),
        ({"LANG": "az_AZ.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "az_AZ.UTF-8"}, "az"),
        ({"LANG": "tr_TR.UTF-8"}, "en"),
    ],
)
def test_the_environment_chooses_where_the_settings_do_not(
    tmp_path: Path, environment: dict[str, str], expected: str
) -> None:
    assert language.chosen(tmp_path, environment) == expected
    (tmp_path / "settings.toml").write_text('[ui]\nlanguage = "auto"\n')
    assert language.chosen(tmp_path, environment) == expected


@pytest.mark.parametrize(
    "text", ['[model]\npreset = "tiny"\n[ui] # looks\n# a reason\nlanguage = "az"\n', 'ui.language = "az"\n']
)
def test_the_settings_win_over_the_environment(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    assert language.chosen(tmp_path, {"LANG": "en_US.UTF-8"}) == "az"


def test_settings_that_cannot_be_read_choose_nothing(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_bytes(b"language = \xff")
    assert language.chosen(tmp_path, {"LANG": "az"}) == "az"
    (tmp_path / "settings.toml").write_text("language = [")
    assert language.chosen(tmp_path, {}) == "en"


def test_english_loads_no_catalogue() -> None:
    code = (
        "import sys; from tui.language import *; use('en'); print('tui.sentences' in sys.modules, tr('Quit'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == ["False", "Quit"]


# --- numbers, dates and sentences -------------------------------------------------------------------------------


def test_numbers_and_dates_are_those_of_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    at = 1_795_000_000.0
    english = (fmt.size(3.31 * 2**30), fmt.money(1240.5, "AZN"), fmt.price(1240.0, "AZN"), fmt.percent(0.421))
    assert english == ("3.31 GiB", "1240.50 AZN", "1,240 AZN", "42.1 %")
    english_date = fmt.date(at)
    language.use("az")
    assert fmt.size(3.31 * 2**30) == "3,31 GiB"
    assert fmt.money(1240.5, "AZN") == "1240,50 AZN"
    assert fmt.price(1240.0, "AZN") == "1.240 AZN"
    assert fmt.percent(0.421) == "42,1 %"
    assert fmt.duration(100_000) == "1 gün 3 saat"
    year, month, day = english_date[:10].split("-")
    assert fmt.date(at) == f"{day}.{month}.{year}{english_date[10:]}"
    assert fmt.clock(at, at + 30 * 86_400).split()[1] in {"yan", "fev", "mar", "apr", "may", "iyn"} | {
        *("iyl", "avq", "sen", "okt", "noy", "dek")
    }


def test_every_part_of_a_plans_basis_is_told() -> None:
    language.use("az")
    told = fmt.said(
        "formula: 30% to 45% of 11 TFLOP/s (RTX 2050, data sheet); not measured on this machine; 24% more for "
        "recomputed activations; twice as long for fp32"
    )
    assert (
        told.startswith("düstur: ")
        and "more for" not in told
        and "not measured" not in told
        and "twice" not in told
        and "24%" in told
    )
    assert fmt.said("cloud.offers in settings.toml") != "cloud.offers in settings.toml"


def test_sentences_of_the_engine_are_told_around_their_figures() -> None:
    language.use("az")
    told = language.told("Saved step-12: 3.5 MiB, verified, in 0.25 s.")
    assert told == "Yazıldı: step-12, 3,5 MiB, yoxlanıldı, 0,25 saniyəyə."
    waived = language.told("On battery, battery at 80%. Waived: the socket is on a UPS")
    assert waived == "Batareyadadır, batareya 80%. Güzəşt: the socket is on a UPS"
    assert language.told("Not ticked: laptop on a hard surface, fan free").endswith(
        ": laptop on a hard surface, fan free"
    )
    half = "41.2 GiB are left; nobody knows: 3 checkpoints of 52 MiB, one of them being written"
    assert language.told(half).startswith("41.2 GiB are left; nobody knows: ")
    assert language.told("Something that nobody translated.") == "Something that nobody translated."
    assert language.told("torch 2.13.0+cpu {weird} [b]x") == "torch 2.13.0+cpu {weird} [b]x"
    assert language.told("") == ""


def test_names_and_versions_keep_their_points() -> None:
    language.use("az")
    catalogue = language._catalogue
    assert catalogue is not None
    assert catalogue.local_figures("1,234.5 of v1.2.3 and 2.13.0+cpu at 10.0.0.1") == (
        "1.234,5 of v1.2.3 and 2.13.0+cpu at 10.0.0.1"
    )


def test_the_alphabet_orders_and_its_two_letters_i_keep_their_dots() -> None:
    language.use("az")
    assert language.capitals("gedir, dayandırıldı") == "GEDİR, DAYANDIRILDI"
    words = ["şən", "zaman", "çox", "cari", "dəyişən", "ev", "əla", "ıq", "iş", "həm", "xəbər"]
    expected = ["cari", "çox", "dəyişən", "ev", "əla", "həm", "xəbər", "ıq", "iş", "şən", "zaman"]
    assert sorted(words, key=language.alphabetical) == expected


# --- what people see, and what programs read --------------------------------------------------------------------


def test_the_command_line_speaks_and_its_documents_do_not_change(tmp_path: Path) -> None:
    runner = CliRunner()
    english = runner.invoke(main, ["--workspace", str(tmp_path), "ledger", "--json"], env={"LC_ALL": "C"})
    said = runner.invoke(main, ["--workspace", str(tmp_path), "ledger"], env={"LC_ALL": "az_AZ.UTF-8"})
    same = runner.invoke(
        main, ["--workspace", str(tmp_path), "ledger", "--json"], env={"LC_ALL": "az_AZ.UTF-8"}
    )
    table = runner.invoke(
        main, ["--workspace", str(tmp_path), "ledger", "--csv"], env={"LC_ALL": "az_AZ.UTF-8"}
    )
    assert "Hələ heç bir təlim" in said.output
    assert json.loads(same.output) == json.loads(english.output)
    assert table.output.startswith("run_id,")


def test_help_and_refusals_are_in_the_language(tmp_path: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(main, ["--help"], env={"LC_ALL": "az"})
    assert "Təlimlərin siyahısı" in shown.output and "List the runs" not in shown.output
    (tmp_path / "settings.toml").write_text('[ui]\nlanguage = "az"\n[training]\ntokns = 5\n')
    refused = runner.invoke(main, ["--workspace", str(tmp_path), "estimate"], env={"LC_ALL": "C"})
    assert refused.exit_code == 2
    assert "Bəlkə training.tokens?" in refused.output


async def test_the_screens_speak(tmp_path: Path) -> None:
    language.use("az")
    app = LlmTui(tmp_path, RecordedBridge(in_state("running")))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause(0.3)
        assert app.current_mode == "run"
        await pilot.press("6")
        await pilot.pause(0.3)
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpDialog)
        assert "Kömək: ayarlar" in str(app.screen.query_one("#box").border_title)


@pytest.mark.parametrize("width", (80, 160))
async def test_a_click_on_a_tab_goes_to_its_screen_in_any_language(tmp_path: Path, width: int) -> None:
    language.use("az")
    app = LlmTui(tmp_path, RecordedBridge(in_state("running")))
    async with app.run_test(size=(width, 30)) as pilot:
        await until(pilot, lambda: app.current_mode == "run")
        for number, name in ((4, "runs"), (5, "plan"), (1, "preflight")):
            at = app.screen.query_one(HeaderLine).plain.index(f"{number} ")
            await pilot.click(HeaderLine, offset=(at + 3, 0))
            await until(pilot, lambda name=name: app.current_mode == name)


def test_every_check_title_and_reason_of_a_setting_is_said(tmp_path: Path) -> None:
    language.use("az")
    (tmp_path / "settings.toml").write_text("")
    for key in read_form(tmp_path / "settings.toml").keys:
        assert language.told(key.reason) != key.reason, key.dotted
        assert language.told(key.expected) != key.expected, key.dotted
    for check in checks(blocking=True):
        if not check.id.startswith("manual-"):
            assert language.told(check.title) != check.title, check.id
    assert Settings().ui.language == "auto"
