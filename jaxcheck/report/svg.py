"""Charts as inline SVG: axes, ticks and marks. Colours are classes, so that the page's style has the say in both
schemes and in print; every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 46
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Tick labels that fit beside each other, across and down.
_ACROSS, _DOWN = 6, 6


class Axis(NamedTuple):
    """From `low` to `high`; `log` of both are powers of ten. `title` says what, and in which unit."""

    low: float
    high: float
    title: str
    log: bool = False

    def part(self, value: float) -> float:
        """Where a value lies, from 0 to 1; what lies beyond, at the end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        if self.log:
            low, high = round(math.log10(self.low)), round(math.log10(self.high))
            stride = max(1, math.ceil((high - low) / most))
            return [(10.0**e, power(e)) for e in range(low, high + 1) if e % stride == 0]
        step = _nice((self.high - self.low) / most)
        first = math.ceil(self.low / step)
        return [(k * step, f"{k * step:.4g}") for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def power(exponent: int) -> str:
    """10⁻³."""
    return "1" if exponent == 0 else f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def _nice(step: float) -> float:
    unit = 10.0 ** math.floor(math.log10(step))
    return next(unit * m for m in (1, 2, 5, 10) if unit * m >= step * (1 - 1e-9))


# Powers of ten between which float64 has all its digits.
_LEAST, _MOST = -300, 300
TINY = 10.0**_LEAST


def decades(values: Iterable[float], title: str, least: int = 2) -> Axis:
    """A log axis around positive values."""
    logs = [math.log10(v) for v in values if v > 0 and math.isfinite(v)] or [0.0]
    low = min(max(math.floor(min(logs) - 0.02), _LEAST), _MOST - least)
    return Axis(10.0**low, 10.0 ** min(max(math.ceil(max(logs) + 0.02), low + least), _MOST), title, True)


def span(values: Iterable[float], title: str) -> Axis:
    """A linear axis around values, with some room."""
    known = [min(max(v, -(10.0**_MOST)), 10.0**_MOST) for v in values if not math.isnan(v)] or [0.0]
    low, high = min(known), max(known)
    room = 0.06 * (high - low)
    if room < max(10.0**_LEAST, 1e-12 * max(abs(low), abs(high))):  # all alike
        room = max(0.1 * abs(high), 10.0 ** (_LEAST + 10)) if high or low else 1.0
    return Axis(low - room, high + room, title)


class Chart:
    """What is put on it is drawn in that order."""

    def __init__(self, x: Axis, y: Axis, title: str, described: str = "") -> None:
        self.x, self.y = x, y
        self.parts: list[str] = []
        self.keys: list[tuple[str, str, str]] = []
        self.title, self.described = title, described

    def at(self, x: float, y: float) -> tuple[float, float]:
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + across * self.x.part(x), TOP + down * (1 - self.y.part(y))

    def band(self, low: float, high: float, css: str, name: str = "") -> None:
        """A shaded interval of x."""
        start, end = (min(max(self.at(x, self.y.low)[0], LEFT), WIDTH - RIGHT) for x in (low, high))
        self.parts.append(
            f'<rect class="{css}" x="{start:.1f}" y="{TOP}" width="{end - start:.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/>'
        )
        if name:
            self.keys.append(("band", css, name))

    def below(self, level: float, css: str, name: str = "") -> None:
        """Everything under a y, shaded."""
        top = min(max(self.at(self.x.low, level)[1], TOP), HEIGHT - BOTTOM)
        self.parts.append(
            f'<rect class="{css}" x="{LEFT}" y="{top:.1f}" width="{WIDTH - LEFT - RIGHT}" '
            f'height="{HEIGHT - BOTTOM - top:.1f}"/>'
        )
        if name:
            self.keys.append(("band", css, name))

    def line(self, points: Sequence[tuple[float, float]], css: str) -> None:
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in (self.at(*p) for p in points))
        self.parts.append(f'<path class="line {css}" d="M{path}"/>')

    def marks(
        self, points: Sequence[tuple[float, float]], css: str, said: Sequence[str] = (), radius: float = 3
    ) -> None:
        """A dot a point, with what is said of it when it is pointed at."""
        for number, point in enumerate(points):
            x, y = self.at(*point)
            title = f"<title>{escape(said[number])}</title>" if said else ""
            self.parts.append(f'<circle class="mark {css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>')

    def cloud(self, points: Iterable[tuple[float, float]], css: str) -> None:
        """Many dots in one path: those that fall on each other once."""
        places = dict.fromkeys((f"{x:.1f} {y:.1f}") for x, y in (self.at(*p) for p in points))
        if places:
            self.parts.append(f'<path class="cloud {css}" d="{"".join(f"M{place}h0" for place in places)}"/>')

    def key(self, kind: str, css: str, name: str) -> None:
        self.keys.append((kind, css, name))

    def render(self) -> str:
        frame = [*self._ticks(), f'<g class="data">{"".join(self.parts)}</g>', *self._titles(), *self._keys()]
        return _svg(WIDTH, HEIGHT, self.title, self.described, "".join(frame))

    def _ticks(self) -> Iterable[str]:
        for value, said in self.x.ticks(_ACROSS):
            x, y = self.at(value, self.y.low)
            yield f'<path class="rule" d="M{x:.1f} {TOP}V{y:.1f}"/>'
            yield f'<text class="tick" x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{said}</text>'
        for value, said in self.y.ticks(_DOWN):
            x, y = self.at(self.x.low, value)
            yield f'<path class="rule" d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}"/>'
            yield f'<text class="tick" x="{x - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{said}</text>'

    def _titles(self) -> Iterable[str]:
        middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
        yield (
            f'<text class="axis" x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(self.x.title)}</text>'
        )
        height = TOP + (HEIGHT - TOP - BOTTOM) / 2
        yield (
            f'<text class="axis" transform="translate(13 {height:.1f}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y.title)}</text>"
        )

    def _keys(self) -> Iterable[str]:
        x = float(LEFT)
        for kind, css, name in self.keys:
            if kind == "band":
                yield f'<rect class="{css}" x="{x:.0f}" y="9" width="14" height="12" rx="2"/>'
            elif kind == "dots":
                yield f'<circle class="mark {css}" cx="{x + 7:.0f}" cy="15" r="3.5"/>'
            else:
                yield f'<path class="line {css}" d="M{x:.0f} 15h14"/>'
                yield f'<circle class="mark {css}" cx="{x + 7:.0f}" cy="15" r="3"/>' if kind == "line" else ""
            yield f'<text class="key" x="{x + 19:.0f}" y="19">{escape(name)}</text>'
            x += 19 + 6.3 * len(name) + 14


LEVELS = 8


def heat(
    values: Sequence[float], rows: int, columns: int, title: str, shape: tuple[int, int], low: float, high: float
) -> str:
    """A matrix as cells, darker the larger on a log scale from `low` to `high`: eight levels, a path each, and their
    scale beside it. What is unknown is grey; 0 is the ground."""
    room, tall = WIDTH - LEFT - 90, HEIGHT - TOP - BOTTOM
    cell = min(28.0, room / columns, tall / rows)
    left, top = LEFT + (room - cell * columns) / 2, TOP + (tall - cell * rows) / 2
    paths: dict[str, list[str]] = {}
    for r in range(rows):
        row = [_level(v, low, high) for v in values[r * columns : (r + 1) * columns]]
        start = 0
        for c in range(1, columns + 1):
            if c == columns or row[c] != row[start]:
                if row[start]:
                    run = f"{cell * (c - start):.2f}"
                    paths.setdefault(row[start], []).append(
                        f"M{left + start * cell:.2f} {top + r * cell:.2f}h{run}v{cell:.2f}h-{run}z"
                    )
                start = c
    parts = [f'<path class="heat {level}" d="{"".join(found)}"/>' for level, found in sorted(paths.items())]
    right, bottom = left + cell * columns, top + cell * rows
    parts.append(
        f'<rect class="frame" x="{left:.2f}" y="{top:.2f}" width="{cell * columns:.2f}" height="{cell * rows:.2f}"/>'
    )
    parts += [
        _text(left, bottom + 16, "0", "start"),
        _text(right, bottom + 16, f"{shape[1] - 1:,}", "end"),
        _text(left - 7, top + 10, "0", "end"),
        _text(left - 7, bottom, f"{shape[0] - 1:,}", "end"),
    ]
    return _svg(WIDTH, HEIGHT, title, "", "".join([*parts, *_scale(low, high)]))


def _scale(low: float, high: float) -> Iterable[str]:
    """The eight levels, the largest on top, with the numbers at every second step."""
    tall, x = (HEIGHT - TOP - BOTTOM) / LEVELS, WIDTH - 64
    for level in range(1, LEVELS + 1):
        y = TOP + tall * (LEVELS - level)
        yield f'<rect class="heat l{level}" x="{x}" y="{y:.1f}" width="12" height="{tall:.1f}"/>'
        if level % 2 == 0:
            yield _text(x + 17, y + 4, f"{high * (low / high) ** (1 - level / LEVELS):.2g}", "start")
    yield f'<rect class="frame" x="{x}" y="{TOP}" width="12" height="{tall * LEVELS:.1f}"/>'
    yield _text(x + 17, TOP + tall * LEVELS + 4, f"{low:.2g}", "start")


def _text(x: float, y: float, said: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'


def _level(value: float, low: float, high: float) -> str:
    """ "" for nothing, `l1` to `l8`, `unknown`."""
    if math.isnan(value):
        return "unknown"
    if value <= 0:
        return ""
    if value >= high:
        return f"l{LEVELS}"
    part = (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low))
    return f"l{max(1, min(LEVELS, 1 + math.floor(part * LEVELS)))}"


def _svg(width: float, height: float, title: str, described: str, inner: str) -> str:
    more = f"<desc>{escape(described)}</desc>" if described else ""
    return (
        f'<svg class="chart" viewBox="0 0 {width:.5g} {height:.5g}" width="{width:.5g}" height="{height:.5g}" '
        f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{more}{inner}</svg>'
    )
