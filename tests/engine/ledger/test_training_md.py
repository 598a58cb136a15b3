"""TRAINING.md: what the person wrote stays, byte for byte; what the program writes is honest and harmless."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from engine.bill import BookedWindow, DayLine
from engine.errors import StoreError
from engine.ledger.markdown import UNKNOWN, escape
from engine.ledger.report import render
from engine.ledger.training_md import BEGIN, END, update
from engine.records import Check, TextSampleRow
from tests.engine.ledger.entries import ledger_entry
from tests.engine.ledger.test_book import as_nobody, open_folder  # noqa: F401

PART = BEGIN + b"\n\nold\n\n" + END


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder / "TRAINING.md"


def test_no_file_is_made_with_a_heading(path: Path) -> None:
    assert update(path, "body")
    text = path.read_text()
    assert text.startswith("# Training\n")
    assert text.endswith("<!-- llm-tui:begin -->\n\nbody\n\n<!-- llm-tui:end -->\n")
    assert [p.name for p in path.parent.iterdir()] == ["TRAINING.md"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"# Mine\n\n", b"\n\nmore"),
        (b"\xff\xfe not UTF-8 \x80"[2:], b"\x81\xfe\xff"),
        (b"\xef\xbb\xbfwith a BOM\n", b"\n"),
        (b"| a | b |\n  trailing  \n\t", b" same line"),
        (b"no newline at the end ", b""),
        (b"old Mac\rlines\r", b"\r"),
        (b"\0binary\0", b"\0"),
    ],
)
def test_everything_outside_the_markers_stays(path: Path, before: bytes, after: bytes) -> None:
    path.write_bytes(before + PART + after)
    assert update(path, "new — ü")
    assert path.read_bytes() == before + BEGIN + "\n\nnew — ü\n\n".encode() + END + after


def test_windows_line_ends_stay_and_are_taken_over(path: Path) -> None:
    path.write_bytes(b"# Mine\r\n\r\n" + BEGIN + b"\r\nold\r\n" + END + b"\r\nmore\r\n")
    update(path, "one\ntwo")
    assert path.read_bytes() == (
        b"# Mine\r\n\r\n" + BEGIN + b"\r\n\r\none\r\ntwo\r\n\r\n" + END + b"\r\nmore\r\n"
    )


@pytest.mark.parametrize("old", [b"# Mine\n", b"# Mine", b"# Mine\r\nx\r\n", b"\x80\x81", b"", b"\n\n\n"])
def test_without_markers_the_part_goes_to_the_end(path: Path, old: bytes) -> None:
    path.write_bytes(old)
    assert update(path, "body")
    content = path.read_bytes()
    assert content.startswith(old) and content.count(BEGIN) == content.count(END) == 1
    assert content.rstrip().endswith(END)
    assert not update(path, "body"), "the second time there is nothing to do"
    assert path.read_bytes() == content
    assert update(path, "other")
    assert path.read_bytes() == content.replace(b"body", b"other")


@pytest.mark.parametrize(
    "old",
    [
        b"x " + BEGIN + b" y",
        b"x " + END + b" y",
        END + b"\n" + BEGIN,
        PART + b"\n" + PART,
        BEGIN + BEGIN + END,
        BEGIN + END + END,
        b"in prose: " + BEGIN + b"\n" + PART,
    ],
)
def test_damaged_markers_are_refused_and_nothing_is_written(path: Path, old: bytes) -> None:
    path.write_bytes(old)
    stamp = path.stat().st_mtime_ns
    with pytest.raises(StoreError) as caught:
        update(path, "new")
    assert "markers" in caught.value.title and str(path) in caught.value.title and caught.value.remedy
    assert path.read_bytes() == old and path.stat().st_mtime_ns == stamp
    path.write_bytes(old.replace(BEGIN, b"").replace(END, b""))
    assert update(path, "new"), "with the markers removed, as the remedy says, it works again"


def test_unchanged_is_not_written(path: Path) -> None:
    update(path, "body")
    os.utime(path, ns=(1, 1))
    inode = path.stat().st_ino
    assert not update(path, "body")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (1, inode)


def test_the_mode_stays_and_links_are_followed(path: Path) -> None:
    target = path.parent / "notes" / "real.md"
    target.parent.mkdir()
    target.write_bytes(b"mine\n")
    target.chmod(0o640)
    path.symlink_to(Path("notes") / "real.md")
    assert update(path, "body")
    assert path.is_symlink() and target.read_bytes().startswith(b"mine\n")
    assert target.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in target.parent.iterdir()] == ["real.md"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_refused(path: Path, encoding: str) -> None:
    old = "\ufeff# Mine\n".encode(encoding)
    path.write_bytes(old)
    with pytest.raises(StoreError, match="UTF-16"):
        update(path, "body")
    assert path.read_bytes() == old


def test_what_is_no_file_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError) as caught:
        update(path, "body")
    assert caught.value.remedy
    path.rmdir()
    path.symlink_to(path)
    with pytest.raises(StoreError):
        update(path, "body")


def test_a_read_only_file_is_respected(open_folder: Path) -> None:  # noqa: F811
    path = open_folder / "TRAINING.md"
    path.write_bytes(b"mine\n")
    path.chmod(0o444)
    open_folder.chmod(0o777)
    said = as_nobody(lambda: update(path, "body"))
    assert said.startswith("StoreError") and "read-only" in said
    assert path.read_bytes() == b"mine\n"


def test_a_body_with_a_marker_is_a_mistake_of_ours(path: Path) -> None:
    with pytest.raises(ValueError, match="marker"):
        update(path, f"x {END.decode()}")
    assert not path.exists()


# --- content


def cells(text: str, run_id: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {run_id} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_table_of_all_runs_and_a_section_each() -> None:
    text = render([ledger_entry(), ledger_entry(run_id="run-2", started_at=1_760_100_000.0)])
    found = cells(text, "run-1")
    assert found[:6] == ["run-1", "tiny (4.0 M)", "Some GPU", "2,002,944", "0.17", "3.5000"]
    assert found[6:11] == ["0.0050", "0.010 (estimate)", "62 / 70", "30.0 / 41.5", "0.0017 USD"]
    assert found[11:] == ["finished", "0"]
    assert text.index("### Run run-2") < text.index("### Run run-1"), "newest first"
    assert "- CPU temperature: — °C at most" in text
    assert "0.70 USD/h (the course: 48 h for one billion tokens at 134M, scaled by FLOP to this run)" in text


def test_the_courses_own_run_costs_what_the_course_says() -> None:
    text = render([ledger_entry(preset="134m", parameters=134_107_392, tokens=1_000_079_360)])
    assert "- a cloud T4 instead: 33.60 USD for 48 h at 0.70 USD/h (the course: 48 h" in text
    assert "scaled" not in text


def test_unknown_is_a_dash_and_totals_say_at_least() -> None:
    unknown = ledger_entry(
        run_id="run-2",
        val_loss=None,
        gpu_energy_j=None,
        machine_energy_j=None,
        energy_source=None,
        cost=None,
        gpu_celsius_mean=None,
        gpu_celsius_max=None,
        gpu_watts_mean=None,
        gpu_watts_max=None,
        storage_bytes=None,
    )
    text = render([ledger_entry(), unknown])
    assert cells(text, "run-2")[5:11] == [UNKNOWN, UNKNOWN, UNKNOWN, "— / —", "— / —", UNKNOWN]
    assert "Machine energy in all: at least 0.010 kWh." in text
    assert "Cost in all: at least 0.0017 USD." in text
    alone = render([unknown])
    assert "Machine energy in all: —." in alone and "Cost in all: —." in alone
    assert "Machine energy in all: 0.010 kWh." in render([ledger_entry()])


def test_totals_count_what_the_gpu_alone_has_used() -> None:
    gpu_alone = ledger_entry(
        run_id="run-2", gpu_energy_j=3.6e6, machine_energy_j=None, energy_source=None, cost=None
    )
    text = render([ledger_entry(), gpu_alone])
    assert "Machine energy in all: at least 1.010 kWh." in text
    assert "Cost in all: at least 0.17 USD." in text


def test_gaps_make_a_figure_a_lower_bound() -> None:
    text = render([ledger_entry(gap_s=90.0)])
    assert "at least 0.010 (estimate)" in cells(text, "run-1")
    assert "not in these figures: 90 s" in text


def test_currencies_are_never_added_up() -> None:
    text = render([ledger_entry(), ledger_entry(run_id="run-2", currency="JPY", cost=250.0)])
    assert "Cost in all: 250 JPY." in text and "Cost in all: 0.0017 USD." in text


def test_waivers_are_told() -> None:
    assert "checks waived: none" in render([ledger_entry()])
    text = render([ledger_entry(waivers='{"power": "I know | what <b>"}')])
    assert "checks waived: power: I know \\| what &lt;b&gt;" in text
    assert "checks waived: not json" in render([ledger_entry(waivers="not json")])


def test_days_are_listed_with_their_run() -> None:
    days = [
        DayLine(
            run_id="run-1",
            day="2026-01-02",
            hours=24.0,
            tokens=5000,
            loss=3.0,
            gpu_energy_j=1.8e6,
            machine_energy_j=3.6e6,
            gpu_celsius_mean=66.0,
            gpu_celsius_max=71.0,
            gpu_watts_mean=30.0,
            gpu_watts_max=41.0,
            machine_watts_mean=60.0,
            machine_watts_max=90.5,
            cost=0.17,
            num_checkpoints=96,
            incidents=("restart", "too-hot"),
        ),
        DayLine(run_id="run-1", day="2026-01-01", hours=10.5),
    ]
    text = render([ledger_entry(days=msgspec.json.encode(days).decode())])
    dash = "| 2026-01-01 | 10.50 | — | — | — | — | — / — | — | — / — | — / — | — | 0 | none |"
    full = (
        "| 2026-01-02 | 24.00 | 5,000 | 3.0000 | 0.500 | 1.000 | 66 / 71 | — | 30.0 / 41.0 | 60.0 / 90.5 | 0.17 USD "
        "| 96 | restart, too-hot |"
    )
    assert text.index(dash) < text.index(full)
    assert "By day" not in render([ledger_entry(days="not json")])


def test_predicted_stands_beside_actual() -> None:
    entry = ledger_entry(
        tokens=1_001_472,
        tokens_total=2_002_944,
        memory_bytes=290_000_000,
        predicted_memory_bytes=312_000_000,
        predicted_hours=0.3,
        predicted_gpu_kwh=None,
        predicted_machine_kwh=0.02,
        predicted_cost=0.0034,
        predicted_basis="formula: <b>",
    )
    text = render([entry])
    for line in (
        "| memory | 312.0 MB | 290.0 MB |",
        "| hours | 0.300 | 0.167 |",
        "| GPU kWh | — | 0.0050 |",
        "| machine kWh | 0.020 | 0.010 |",
        "| cost | 0.0034 USD | 0.0017 USD |",
        "(formula: &lt;b&gt;). The prediction is for the whole run; 50.0% of it was trained.",
    ):
        assert line in text
    assert "predicted" not in render([ledger_entry()])


def test_checks_samples_tariff_and_storage_are_told() -> None:
    check = Check(id="power", title="Power", status="waived", blocking=False, evidence="On battery | 61 %.")
    samples = [
        TextSampleRow(step=3, at=0.0, prompt="def ", text="x(\n\x1b[31m<script>"),
        TextSampleRow(step=900, at=0.0, prompt="def ", text="main():"),
    ]
    windows = [
        BookedWindow(window="22:00-06:00", price_micro=120_000, machine_j=3.6e6, cost_micro=120_000),
        BookedWindow(window="else", price_micro=300_000, machine_j=7.2e6, cost_micro=600_000),
    ]
    text = render(
        [
            ledger_entry(
                price_per_kwh=0.3,
                checks=msgspec.json.encode([check]).decode(),
                samples=msgspec.json.encode(samples).decode(),
                tariff=msgspec.json.encode(windows).decode(),
                shards_bytes=2_000_000,
            )
        ]
    )
    assert "| Power | waived | On battery \\| 61 %. |" in text
    assert "- first sample, step 3: def x( " in text and "<script>" not in text and "\x1b" not in text
    assert "- last sample, step 900: def main():" in text
    assert "at 0.12 22:00-06:00: 1.000 kWh, 0.12 USD; at 0.3 else: 2.000 kWh, 0.60 USD" in text
    assert "in the run's folder (token shards 2.0 MB)" in text


def test_no_run_yet() -> None:
    assert render([]) == "No run has ended yet."


HOSTILE = "a|b`c`\n# d\r\n<script>&*_[x](y)![z]~~\x1b[31m\0\u202eevil\u200b\ud800 <!-- llm-tui:end -->\\"


def test_text_from_outside_does_nothing() -> None:
    shown = escape(HOSTILE)
    assert shown.isprintable() and "\n" not in shown and "<" not in shown and "\x1b" not in shown
    assert "\u202e" not in shown and "\u200b" not in shown
    for sign in "|`*_[]~":
        assert shown.count(sign) == shown.count(f"\\{sign}")
    shown.encode("utf-8")
    assert len(escape("x" * 10_000)) < 400


def test_a_hostile_record_keeps_the_table_whole(path: Path) -> None:
    hostile = ledger_entry(
        run_id=HOSTILE,
        device=HOSTILE,
        corpus=HOSTILE,
        state=HOSTILE,
        preset=HOSTILE,
        waivers=HOSTILE,
        predicted_basis=HOSTILE,
        predicted_memory_bytes=1,
        tariff=HOSTILE,
        days=HOSTILE,
        checks=HOSTILE,
        samples=HOSTILE,
    )
    text = render([hostile, ledger_entry()])
    rows = [line for line in text.splitlines() if line.startswith("|")][:4]
    assert {len(row.replace("\\|", "").split("|")) for row in rows} == {15}
    assert update(path, text) and not update(path, text)
    assert path.read_bytes().count(END) == 1
