"""The colours of a page, light and dark. Text keeps a contrast of 4.5:1 and more on every ground it stands on, marks of
a picture 3:1 (`tests/test_html.py` computes them)."""

from __future__ import annotations

LIGHT = {
    "ground": "#f7f7f5",
    "card": "#ffffff",
    "sunken": "#f3f3f1",
    "ink": "#1d1d1f",
    "muted": "#5b5f66",
    "rule": "#e3e3e0",
    "edge": "#85888f",
    "focus": "#0b57d0",
    "fail": "#b3261e",
    "fail-tint": "#fdf1ef",
    "pass": "#17693f",
    "pass-tint": "#edf7f0",
    "inconclusive": "#7a5200",
    "inconclusive-tint": "#fcf5e3",
    "second": "#3c6e9e",
    "third": "#6b4fa0",
    "smooth": "#e6f0f8",
}
DARK = {
    "ground": "#131416",
    "card": "#1b1d20",
    "sunken": "#24272b",
    "ink": "#ececee",
    "muted": "#a7acb5",
    "rule": "#34373d",
    "edge": "#7d828b",
    "focus": "#8ab4f8",
    "fail": "#ff8f85",
    "fail-tint": "#2d1d1c",
    "pass": "#74cf9d",
    "pass-tint": "#18281f",
    "inconclusive": "#e9bd62",
    "inconclusive-tint": "#2b2414",
    "second": "#8fbce6",
    "third": "#c3aef0",
    "smooth": "#223142",
}


def declared(colours: dict[str, str]) -> str:
    """As CSS variables."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
