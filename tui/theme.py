"""The one theme: a calm dark ground, and colours that stay apart for colour-blind eyes.

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
        "footer-background": "#121922",
        "footer-key-foreground": "#6cb6eb",
        "footer-description-foreground": "#9fb0c0",
        "block-cursor-background": "#24425c",
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
        "muted": "#8b9cad",
        "faint": "#5b6b7b",
    },
)
