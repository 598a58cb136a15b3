"""What people read, and the one door for text from outside."""

import unicodedata

import pytest

from tui import format as fmt

HOSTILE = {
    "colour": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x1b\\",
    "c1": "\x9b31m\x90q\x9c",
    "bidi": "abc\u202edcba\u2066x\u2069",
    "zero width": "a\u200bb\u200d\ufeffc",
    "surrogate": "a\ud800b",
    "tag": "a\U000e0041b",
    "separator": "a\u2028b\u2029c",
    "backspace": "ab\b\bcd\r\x00\x7f",
    "marks": "e" + "\u0301" * 40,
    "unassigned": "\U0003ffff",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("keep_newlines", [False, True])
def test_nothing_that_a_terminal_obeys_is_left(text: str, keep_newlines: bool) -> None:
    cleaned = fmt.clean(text + "\n\tend", keep_newlines=keep_newlines)
    left = {
        character
        for character in cleaned
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    }
    assert left == ({"\n"} if keep_newlines else set())
    cleaned.encode("utf-8")
    assert cleaned.endswith("end")
    assert sum(map(bool, map(unicodedata.combining, cleaned))) <= 2


def test_harmless_text_is_left_alone() -> None:
    for text in ("plain", "Größe 日本語 naïve [b]markup[/b] 🙂", ""):
        assert fmt.clean(text) == text
    assert fmt.clean("a\r\nb\tc", keep_newlines=True) == "a\nb    c"
    assert fmt.clean("\x1b[1m") == "␛[1m"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (fmt.count(842_137), "842 k"),
        (fmt.count(1_000_000_000), "1.00 B"),
        (fmt.count(999_999), "1.00 M"),
        (fmt.count(12), "12"),
        (fmt.count(0), "0"),
        (fmt.size(3_554_000_000), "3.31 GiB"),
        (fmt.size_decimal(12_900_000), "12.9 MB"),
        (fmt.duration(0.4), "0 s"),
        (fmt.duration(59.7), "1 min 0 s"),
        (fmt.duration(3_600 * 5 + 720), "5 h 12 min"),
        (fmt.duration(86_400 * 2 + 14_400), "2 d 4 h"),
        (fmt.money(33.6, "USD"), "33.60 USD"),
        (fmt.money(0.0042, "USD"), "0.0042 USD"),
        (fmt.money(0.00001, "USD"), "<0.0001 USD"),
        (fmt.money(0.0, "USD"), "0.00 USD"),
        (fmt.energy(3_600), "1.00 Wh"),
        (fmt.energy(6.4e6), "1.78 kWh"),
        (fmt.percent(0.99999), "99.9 %"),
        (fmt.percent(1.0), "100 %"),
    ],
)
def test_numbers_are_written_in_the_unit_that_suits_them(written: str, expected: str) -> None:
    assert written == expected


def test_unknown_is_never_a_number() -> None:
    writers = (
        fmt.count,
        fmt.size,
        fmt.size_decimal,
        fmt.rate,
        fmt.percent,
        fmt.duration,
        fmt.hours,
        fmt.energy,
        fmt.kwh,
    )
    assert {write(None) for write in writers} == {fmt.UNKNOWN}
    assert (
        fmt.money(None, "USD")
        == fmt.number(None, 2)
        == fmt.whole(None, "W")
        == fmt.clock(None, 0)
        == fmt.UNKNOWN
    )
