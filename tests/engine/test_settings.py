"""settings.toml: what is accepted, how it is refused, and that the documented file is the truth."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine import settings_file
from engine.errors import ExitCode, SettingsError
from engine.settings import Settings
from engine.shape import PRESETS

ROOT = Path(__file__).resolve().parents[2]


def test_documented_file_holds_every_key_with_its_default() -> None:
    text = settings_file.template()
    assert settings_file.parse(text, "settings.toml") == Settings()
    for section in msgspec.structs.fields(Settings):
        for field in msgspec.structs.fields(section.type):
            assert (
                f"\n{field.name} =" in text
                or f"\n# {field.name} =" in text
                or f"\n# [[{section.name}.{field.name}]]" in text
                or f"\n# [{section.name}.{field.name}]" in text
            )


def test_repository_ships_the_documented_file() -> None:
    assert (ROOT / "settings.toml").read_text("utf-8") == settings_file.template()


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("[training]\n\ntokns = 5", "settings.toml:3", "training.tokens?"),
        ("[trainin]\n", "settings.toml:1", "training?"),
        ("[training]\ntokens = -5", "settings.toml:2", "a whole number from 1"),
        ('[training]\ntokens = "many"', "settings.toml:2", "'many'"),
        ("[training]\nseed = true", "settings.toml:2", "True"),
        ("[training]\nseed = 1.5", "settings.toml:2", "1.5"),
        ("[limits]\nmax_cost = nan", "settings.toml:2", "nan"),
        ("[limits]\nmax_cost = inf", "settings.toml:2", "inf"),
        ('[energy]\ncurrency = "dollar"', "settings.toml:2", "three capital letters"),
        ("[energy]\nprice_per_kwh = -0.1", "settings.toml:2", "-0.1"),
        ('[model]\npreset = "huge"', "settings.toml:2", '"134m"'),
        ("training = 3", "settings.toml:1", "[training]"),
        ("[limits]\nresume_gpu_celsius = 95", "settings.toml:2", "limits.max_gpu_celsius"),
        ("[preflight]\nclose_apps = [1]", "settings.toml:2", "a list of texts"),
        ('[[cloud.offers]]\nname = "x"', "settings.toml", "gpu"),
        ('[[cloud.offers]]\nname = "x"\ngpu = "y"\nusd_per_hour = -1', "settings.toml", "usd_per_hour"),
        (
            '[[cloud.offers]]\nname = "x"\ngpu = "y"\nusd_per_hour = 1\nhours = 0',
            "settings.toml:5",
            "above 0",
        ),
        ('[energy]\ncurrency = "EUU"', "settings.toml:2", "Did you mean EUR?"),
        ('[energy]\ncurrency = "XYZ"', "settings.toml:2", "a currency of ISO 4217"),
        ('[[energy.tariff]]\nfrom = "22:00"\nto = "6:00"\nprice_per_kwh = 1', "settings.toml:3", '"22:00"'),
        ('[[energy.tariff]]\nfrom = "22:00"\nto = "24:01"\nprice_per_kwh = 1', "settings.toml:3", "24:01"),
        ('[[energy.tariff]]\nfrom = "22:00"\nprice_per_kwh = 1', "settings.toml:1", "Add to to it"),
        ('[[energy.tariff]]\nfrom = "22:00"\nto = "06:00"\nprice_per_kwh = -1', "settings.toml:4", "-1"),
        (
            '[[energy.tariff]]\nfrom = "22:00"\nto = "06:00"\ndays = ["monday"]\nprice_per_kwh = 1',
            "settings.toml:4",
            '"mon"',
        ),
        ("[energy]\ntariff = 3", "settings.toml:2", "tables"),
        ("[training\nseed = 1", "settings.toml", "line 1"),
    ],
)
def test_wrong_settings_are_refused_with_place_value_and_remedy(text: str, where: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_file.parse(text, "settings.toml")
    error = caught.value
    assert where in error.title
    assert told in f"{error.title} {error.remedy}"
    assert error.remedy
    assert error.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.tokens=abc", "'abc'"),
        ("tokens", "section.key=value"),
        ("training.tokns=1", "training.tokens?"),
    ],
)
def test_wrong_overrides_are_refused_and_named_as_such(override: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_file.parse("", "settings.toml", [override])
    assert "--set" in caught.value.title
    assert told in str(caught.value)


def test_overrides_win_over_the_file_and_text_needs_no_quotes() -> None:
    text = "[training]\ntokens = 5\n"
    settings = settings_file.parse(
        text, "f", ["training.tokens=7", "corpus.source=a b/c.txt", "limits.max_hours=2"]
    )
    assert settings.training.tokens == 7
    assert settings.corpus.source == "a b/c.txt"
    assert settings.limits.max_hours == 2.0


def test_frozen_settings_are_the_same_settings(tmp_path: Path) -> None:
    text = '[model]\nn_layer = 3\n[[cloud.offers]]\nname = "n"\ngpu = "T4"\nusd_per_hour = 0.5\nhours = 3\n'
    settings = settings_file.parse(text, "f", ["training.learning_rate=0.001"])
    settings_file.freeze(settings, tmp_path / "settings.toml")
    assert settings_file.load(tmp_path / "settings.toml") == settings
    assert (tmp_path / "settings.toml").stat().st_mode & 0o777 == 0o600


def test_init_never_overwrites(tmp_path: Path) -> None:
    path = settings_file.write_template(tmp_path / "new")
    path.write_text("mine", "utf-8")
    with pytest.raises(SettingsError, match="there already"):
        settings_file.write_template(tmp_path / "new")
    assert path.read_text("utf-8") == "mine"


def test_absent_and_undecodable_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_file.load(tmp_path / "settings.toml")
    assert "llm-tui init" in caught.value.remedy
    (tmp_path / "settings.toml").write_bytes(b"\xff\xfe[model]")
    with pytest.raises(SettingsError, match="cannot be read"):
        settings_file.load(tmp_path / "settings.toml")


def test_the_preset_of_134_million_parameters_has_them() -> None:
    assert PRESETS["134m"].parameters == pytest.approx(134e6, rel=0.01)
