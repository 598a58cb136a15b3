"""Our theme: a calm dark ground, and colours that stay apart for colour-blind eyes; and the same for 16 colours.

Training is blue and validation orange, told apart by their marks too; good, doubtful and bad are bluish green,
yellow and vermilion, always beside a word. Source of the hues: Okabe and Ito, Color Universal Design, 2008.
"""

from __future__ import annotations

from textual.theme import Theme

NIGHT = Theme(
    name="llm-tui-night",
    dark=True,
    primary="#6cb6eb",
    secondary="#7f93a8",
    accent="#f0a64b",
    success="#4cbf9c",
    warning="#e8d16a",
    error="#ee7b4d",
    foreground="#d5dde6",
    background="#0e1319",
    surface="#121922",
    panel="#1b2530",
    boost="#1b2530",
    variables={
        "border": "#5f7d94",
        "border-blurred": "#2d3b49",
        "orchid": "#cf8fc4",
        "footer-background": "#121922",
        "footer-key-foreground": "#6cb6eb",
        "footer-description-foreground": "#9fb0c0",
        "block-cursor-background": "#213d56",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#1d3346",
        "block-cursor-blurred-foreground": "#d5dde6",
        "scrollbar": "#2d3b49",
        "scrollbar-hover": "#3c4e60",
        "scrollbar-active": "#5f7d94",
        "scrollbar-background": "#121922",
        "scrollbar-background-hover": "#121922",
        "scrollbar-background-active": "#121922",
        "scrollbar-corner-color": "#121922",
        "muted": "#9aabbc",
        "faint": "#7a8da0",
    },
)

SIXTEEN = Theme(
    name="llm-tui-16",
    dark=True,
    primary="#55ffff",
    secondary="#aaaaaa",
    accent="#ffff55",
    success="#55ff55",
    warning="#ff55ff",
    error="#ff5555",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    boost="#000000",
    variables={
        **NIGHT.variables,
        "border": "#00aaaa",
        "border-blurred": "#555555",
        "orchid": "#aa00aa",
        "footer-background": "#000000",
        "footer-key-foreground": "#55ffff",
        "footer-description-foreground": "#aaaaaa",
        "block-cursor-background": "#0000aa",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-blurred-background": "#555555",
        "block-cursor-blurred-foreground": "#ffffff",
        "scrollbar": "#555555",
        "scrollbar-hover": "#aaaaaa",
        "scrollbar-active": "#aaaaaa",
        "scrollbar-background": "#000000",
        "scrollbar-background-hover": "#000000",
        "scrollbar-background-active": "#000000",
        "scrollbar-corner-color": "#000000",
        "muted": "#aaaaaa",
        "faint": "#aaaaaa",
    },
)
"""In the very colours of a 16-colour terminal, so that nothing is rounded: blue would become white, orange red.

Source of the values: the standard palette of rich 14 (`rich.palette`), which is that of the VGA.
"""
