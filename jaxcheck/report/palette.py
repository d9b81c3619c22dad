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

# (foreground, grounds that it stands on): words, and marks of pictures.
WORDS = (
    ("ink", ("ground", "card", "sunken", "smooth", "fail-tint", "pass-tint", "inconclusive-tint")),
    ("muted", ("ground", "card", "sunken", "fail-tint", "pass-tint", "inconclusive-tint")),
    ("focus", ("ground", "card")),
    *((verdict, ("ground", "card", "sunken", f"{verdict}-tint")) for verdict in ("fail", "pass", "inconclusive")),
)
MARKS = (
    ("edge", ("ground", "card")),
    *((mark, ("card", "smooth")) for mark in ("fail", "pass", "inconclusive", "second", "third")),
)


def declared(colours: dict[str, str]) -> str:
    """As CSS variables."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2, from 1 to 21, of two colours `#rrggbb`."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
