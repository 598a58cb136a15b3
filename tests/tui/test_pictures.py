"""The pictures of the screens: text keeps its place, and each is taken of facts of its own."""

from __future__ import annotations

from bench.picture_stories import stories
from bench.pictures import CELL, aligned, with_dots


def test_blanks_before_a_text_become_its_place() -> None:
    svg = '<text class="a" x="10" y="20" textLength="61.0">&#160;&#160; ab</text><text x="1" y="2">c&#160;d</text>'
    moved = aligned(svg)
    assert f'x="{10 + 3 * CELL:.1f}"' in moved and 'textLength="24.4">ab</text>' in moved
    assert moved.endswith('<text x="1" y="2">c&#160;d</text>')
    assert aligned('<text x="1" y="2">&#160;&#160;</text>') == ""
    assert "a &amp; &lt;b" in aligned('<text x="1" y="2">&#160;a &amp; &lt;b</text>')


def test_dots_stay_where_they_are_drawn() -> None:
    drawn = aligned(with_dots('<text class="a" x="10" y="20">⠁x</text>'))
    assert '<rect class="a"' in drawn and f'x="{10 + CELL:.1f}"' in drawn and ">x</text>" in drawn


def test_every_picture_is_taken_of_new_facts() -> None:
    told = stories()
    assert len(told) > 70
    make, _ = told["run-away"]
    first = make()
    assert first.look(next(iter(first.shots))) is not None
    assert make().digest is not None, "what one size was told once is told the next one too"
