"""Report -> HTML: a fragment for notebooks, a self-contained page for files. Everything is escaped."""

from __future__ import annotations

import functools
import json as stdlib_json
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from jaxcheck.report import json, numbers, palette, terms, text, view, words
from jaxcheck.result import Report

# How notebooks and documents say that they are dark.
_DARK_HOSTS = ", ".join(
    f"{host} .jaxcheck-cell"
    for host in (
        'body[data-jp-theme-light="false"]',
        "body.vscode-dark",
        'html[theme="dark"]',
        '[data-theme="dark"]',
        '[data-md-color-scheme="slate"]',
    )
)
_PLAIN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>{title}</title></head>
<body>{body}<p>With jinja2 (pip install 'jaxcheck[html]') this page has tables and pictures.</p>
<script type="application/json" id="jaxcheck-reports">{data}</script></body></html>
"""


def fragment(report: Report) -> str:
    """The report as an HTML element, for a notebook. Without jinja2 it is the text in a `<pre>`."""
    templates = _templates()
    if templates is None:
        return _visible(f"<pre>{escape(text.render(report))}</pre>")
    made = templates.get_template("fragment.html").render(
        view=_marked(view.of(report, "cell", page=False)), style=_file("style.css"), dark_hosts=_markup(_DARK_HOSTS)
    )
    return _visible(made)


def page(report: Report) -> str:
    """The report as a page that needs no other file, and holds its data; without jinja2 as plain text."""
    return _page(words.headline(report), [report], ())


def pages(reports: Sequence[Report], errors: Sequence[tuple[str, str]] = ()) -> str:
    """Several reports in one page, those that did not pass first, and what was raised by checks that came to none."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in numbers.tally(reports))
    title = f"{numbers.count(len(reports), 'gradient check')}: {counts}"
    title += f", {len(errors)} in error" if errors else ""
    return _page(title, sorted(reports, key=lambda report: numbers.WORST_FIRST.index(report.verdict)), errors)


def _page(title: str, reports: Sequence[Report], errors: Sequence[tuple[str, str]]) -> str:
    # Inert data for `embedded`: JSON needs no `<` outside of strings, and inside them has another way to write it.
    data = stdlib_json.dumps(json.encode_all(reports, errors), allow_nan=False).replace("<", "\\u003c")
    templates = _templates()
    if templates is None:
        body = "".join(f"<p>error in {escape(name)}: {escape(said)}</p>" for name, said in errors)
        body += "".join(f"<pre>{escape(text.render(report))}</pre>" for report in reports)
        return _visible(_PLAIN.format(title=escape(title), body=body, data=data))
    views = [_marked(view.of(report, f"check-{k}", page=True)) for k, report in enumerate(reports)]
    several = len(reports) != 1 or bool(errors)
    index = [
        {
            "verdict": "ERROR",
            "rank": -1,
            "name": name,
            "said": said,
            "floor": numbers.UNKNOWN,
            "floor_value": "",
            "seconds": numbers.UNKNOWN,
            "seconds_value": "",
            "anchor": "",
        }
        for name, said in errors
    ]
    index += [view.index_row(report, f"check-{k}") for k, report in enumerate(reports)]
    verdicts = [row["verdict"] for row in index]
    dates = sorted({report.made.date for report in reports if report.made.date})
    made = templates.get_template("page.html").render(
        title=title,
        views=views,
        index=index if several else [],
        data=_markup(data),
        style=_file("style.css"),
        index_counts=[(v, verdicts.count(v)) for v in dict.fromkeys(verdicts)],
        page_style=_file("page.css"),
        script=_file("page.js"),
        when=dates[-1].replace("T", " ").replace("Z", " UTC") if dates else "",
    )
    return _visible(made)


# What HTML has no way to write, not even escaped: a message that was raised may hold the colours of a terminal.
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")


def _visible(page: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", page)


def embedded(text: str) -> str:
    """The JSON in a page. Raises ValueError where there is none."""
    found = _DATA.search(text)
    if found is None:
        raise ValueError("this HTML page holds no report: it was not written by jaxcheck, or by an earlier version")
    return found.group(1)


_DATA = re.compile(r'<script type="application/json" id="jaxcheck-reports">(.*?)</script>', re.DOTALL)


@functools.cache
def _file(name: str) -> Any:
    """One of the package's own files, which is markup as it stands."""
    return _markup(_text(name))


@functools.cache
def _text(name: str) -> str:
    return (resources.files("jaxcheck.report") / "templates" / name).read_text(encoding="utf-8").strip()


def _templates() -> Any:
    """jinja2's environment, None without jinja2."""
    try:
        import jinja2
    except ImportError:
        return None
    return _environment(jinja2.Environment, jinja2.DictLoader, jinja2.StrictUndefined)


@functools.cache
def _environment(environment: Any, loader: Any, undefined: Any) -> Any:
    sources = {name: _text(name) for name in ("report.html", "page.html", "fragment.html")}
    found = environment(
        loader=loader(sources),
        autoescape=True,
        undefined=undefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["code"] = _code
    meant = {term.name: term.meaning for term in terms.TERMS.values()}
    found.globals.update(
        terms=meant,
        legend_terms=[(name, meant[name]) for name in view.LEGEND],
        light=_markup(palette.declared(palette.LIGHT)),
        dark=_markup(palette.declared(palette.DARK)),
        meanings={
            "verdict": "What was found out about this leaf, and why. PASS comes with a floor.",
            "to_n": f"{meant['N']} {meant['difference']}",
            "to_a": f"{meant['A']} {meant['difference']}",
        },
    )
    return found


def _code(said: str) -> Any:
    """Words in backquotes as code; everything escaped."""
    parts = str(said).split("`")
    if len(parts) % 2 == 0:  # one without its partner is a character as any
        return _markup(escape(str(said)))
    return _markup(
        "".join(escape(part) if k % 2 == 0 else f"<code>{escape(part)}</code>" for k, part in enumerate(parts))
    )


def _marked(found: dict[str, Any]) -> dict[str, Any]:
    """The pictures of a view, which are markup already."""
    for leaf in found["details"]:
        for name in ("figures", "more"):
            leaf[name] = [figure._replace(svg=_markup(figure.svg)) for figure in leaf[name]]
    return found


def _markup(html: str) -> Any:
    from markupsafe import Markup  # comes with jinja2

    return Markup(html)
