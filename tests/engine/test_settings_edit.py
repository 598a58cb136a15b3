"""The form of settings.toml: what it tells, what it refuses, and what a save leaves alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from engine import settings_file
from engine.errors import SettingsError
from engine.settings import Settings
from engine.settings_edit import FileChangedError, check, edited, read_form, save


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return settings_file.write_template(tmp_path)


def test_every_key_is_told_with_what_the_engine_knows_of_it(path: Path) -> None:
    form = read_form(path)
    keys = {key.dotted: key for key in form.keys}
    assert not form.problem and list(form.sections) == list(Settings.__struct_fields__)
    celsius = keys["limits.max_gpu_celsius"]
    assert (celsius.value, celsius.default, celsius.unit) == ("87.0", "87.0", "°C")
    assert celsius.expected == "a number from 0 to 120" and "checkpoint and pause" in celsius.reason
    assert keys["training.optimizer"].choices == ('"muon"', '"adamw"')
    assert keys["model.n_layer"].value == "" and not keys["model.n_layer"].is_in_file
    assert keys["model.tie_embeddings"].choices == ("true", "false")
    for key in form.keys:
        assert key.reason and key.expected
        if key.value:
            check(form, {key.dotted: key.value})


def test_a_save_keeps_comments_order_and_every_other_line(path: Path) -> None:
    text = path.read_text("utf-8").replace("seed = 1337", "seed = 1337  # my lucky one")
    path.write_text(text, "utf-8")
    path.chmod(0o640)
    save(read_form(path), {"training.seed": "7", "model.n_layer": "4", "corpus.source": "my texts"})
    saved = path.read_text("utf-8")
    changed = [
        (old, new) for old, new in zip(text.splitlines(), saved.splitlines(), strict=True) if old != new
    ]
    assert changed == [
        ("# n_layer =", "n_layer = 4"),
        ('source = "builtin:python"', 'source = "my texts"'),
        ("seed = 1337  # my lucky one", "seed = 7  # my lucky one"),
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    save(read_form(path), {"model.n_layer": None})
    assert path.read_text("utf-8") == saved.replace("n_layer = 4", "# n_layer =")


def test_tables_of_a_list_and_windows_line_ends_survive(path: Path) -> None:
    tariff = '[{from = "22:00", to = "06:00", price_per_kwh = 0.1}]'
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    save(read_form(path), {"energy.tariff": tariff, "energy.currency": "EUR"})
    settings = settings_file.load(path)
    assert settings.energy.currency == "EUR" and settings.energy.tariff[0].price_per_kwh == 0.1
    assert b"\n" not in path.read_bytes().replace(b"\r\n", b"")
    value = {key.dotted: key.value for key in read_form(path).keys}["energy.tariff"]
    assert value == tariff and check(read_form(path), {"energy.tariff": value}) == settings


def test_a_table_of_a_list_elsewhere_in_the_file_is_not_mixed_up(path: Path) -> None:
    path.write_text(
        '[energy]\nprice_per_kwh = 0.2  # mine\n[cloud]\n[[energy.tariff]]\nfrom = "22:00"\nto = "06:00"\n'
        "price_per_kwh = 0.1\n",
        "utf-8",
    )
    save(read_form(path), {"energy.currency": "AZN", "training.seed": "5"})
    settings = settings_file.load(path)
    assert (settings.energy.currency, settings.training.seed) == ("AZN", 5)
    assert len(settings.energy.tariff) == 1 and "# mine" in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("training.tokens", "some", 'is not a whole number from 1 to 1,000,000,000,000 or "auto"'),
        ("limits.resume_gpu_celsius", "99", "is not less than limits.max_gpu_celsius"),
        ("energy.currency", "EUX", "is not a currency"),
        ("model.n_layer", "", "is not a whole number"),
    ],
)
def test_what_the_engine_refuses_is_refused_and_changes_nothing(
    path: Path, key: str, value: str, said: str
) -> None:
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=said) as found:
        save(read_form(path), {key: value})
    assert found.value.title.startswith(f"{key} = ") and found.value.remedy
    assert found.value.dotted == key and found.value.expected in found.value.title
    assert path.read_bytes() == before


def test_a_file_that_was_changed_meanwhile_is_not_written_over(path: Path) -> None:
    form = read_form(path)
    path.write_text(path.read_text("utf-8").replace("seed = 1337", "seed = 1"), "utf-8")
    theirs = path.read_bytes()
    with pytest.raises(FileChangedError):
        save(form, {"training.seed": "2"})
    assert path.read_bytes() == theirs
    save(read_form(path), {"training.seed": "2"})
    assert settings_file.load(path).training.seed == 2


def test_a_file_that_is_no_toml_has_no_keys_and_stays(path: Path) -> None:
    path.write_text("[training\nseed = 1", "utf-8")
    form = read_form(path)
    assert not form.keys and "is not TOML" in form.problem
    with pytest.raises(SettingsError):
        save(form, {"training.seed": "2"})
    assert path.read_text("utf-8") == "[training\nseed = 1"


def test_a_value_that_is_refused_in_the_file_can_be_mended(path: Path) -> None:
    path.write_text(path.read_text("utf-8").replace("seed = 1337", "seed = -4"), "utf-8")
    form = read_form(path)
    assert "seed = -4" in form.problem and form.keys
    save(form, {"training.seed": "4"})
    assert not read_form(path).problem


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.toml"
    path.rename(real)
    path.symlink_to(real)
    save(read_form(path), {"training.seed": "2"})
    assert path.is_symlink() and settings_file.load(real).training.seed == 2


def test_without_a_file_there_is_a_form(tmp_path: Path) -> None:
    form = read_form(tmp_path / "settings.toml")
    assert form.text is None and len(form.keys) > 40


def test_a_section_that_is_not_there_is_made() -> None:
    assert "[training]" in (text := edited("# mine\n[model]\n", {"training.seed": "3"}))
    assert settings_file.parse(text, "it").training.seed == 3


def test_a_receivers_address_is_a_secret_that_is_neither_frozen_nor_told(path: Path, tmp_path: Path) -> None:
    path.write_text('[notify]\nurl = "https://hooks.example.org/s3cret"\n')
    assert [key.dotted for key in read_form(path).keys if key.is_secret] == ["notify.url"]
    settings_file.freeze(settings_file.load(path), tmp_path / "frozen.toml")
    assert "s3cret" not in (tmp_path / "frozen.toml").read_text()
    with pytest.raises(SettingsError) as caught:
        settings_file.load(path, [f"notify.url={'s3cret' * 400}"])
    assert "s3cret" not in str(caught.value) and "notify.url" in str(caught.value)


def test_an_offer_without_its_hours_can_be_frozen_and_read_again(path: Path, tmp_path: Path) -> None:
    path.write_text('[[cloud.offers]]\nname = "a friend"\ngpu = "NVIDIA T4"\nusd_per_hour = 0.5\n')
    settings = settings_file.load(path)
    settings_file.freeze(settings, tmp_path / "frozen.toml")
    assert settings_file.load(tmp_path / "frozen.toml") == settings


def test_choices_stand_in_the_order_in_which_they_were_written(path: Path) -> None:
    keys = {key.dotted: key for key in read_form(path).keys}
    assert keys["model.preset"].choices == ('"auto"', '"tiny"', '"15m"', '"45m"', '"134m"')
    assert keys["model.preset"].expected == 'one of "auto", "tiny", "15m", "45m", "134m"'
    assert keys["training.precision"].choices == ('"auto"', '"fp32"', '"bf16"', '"fp16"')
