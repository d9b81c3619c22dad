"""Report -> HTML: a fragment for notebooks, a self-contained page for files. Everything is escaped."""

from __future__ import annotations

import json as stdlib_json
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from jaxcheck.report import json, numbers, tables, terms, text, words
from jaxcheck.result import LeafResult, Reason, Report, Verdict

_STYLE = """
.jaxcheck { font: 14px/1.45 system-ui, sans-serif; max-width: 75em; }
.jaxcheck table { border-collapse: collapse; margin: .6em 0; font-variant-numeric: tabular-nums; }
.jaxcheck th, .jaxcheck td { padding: .15em .8em; text-align: right; border-bottom: 1px solid #8884; }
.jaxcheck th:first-child, .jaxcheck td:first-child, .jaxcheck td.words { text-align: left; }
.jaxcheck code, .jaxcheck pre { font-family: ui-monospace, monospace; }
.jaxcheck .PASS, .jaxcheck .OK { color: #18794e; }
.jaxcheck .FAIL, .jaxcheck .WRONG { color: #c62a2f; }
.jaxcheck .INCONCLUSIVE, .jaxcheck .UNSUPPORTED { color: #946800; }
.jaxcheck p { margin: .2em 0; }
.jaxcheck h2 { font-size: 1.2em; } .jaxcheck h3 { font-size: 1em; margin: 1em 0 .2em; }
""".strip()

_FRAGMENT = """
<div class="jaxcheck"><style>{{ style }}</style>
<h2 class="{{ report.verdict.value }}" title="{{ meaning(report.verdict.name) }}">{{ words.headline(report) }}</h2>
{% if report.reason is not sameas agree %}<p>{{ report.reason.name }}: {{ report.reason.advice }}</p>{% endif %}
{% for note in report.notes %}<p>{{ note }}</p>{% endfor %}
{% if leaves %}<table>
<tr><th>leaf</th><th>shape</th><th>dtype</th><th title="{{ meaning('M') }}">|M|</th>
<th title="{{ meaning('difference') }}">to N</th><th title="{{ meaning('difference') }}">to A</th>
<th title="{{ meaning('floor') }}">floor: leaf</th><th title="{{ meaning('floor') }}">floor: component</th>
<th>verdict</th></tr>
{% for leaf in leaves %}<tr><td><code>{{ leaf.path }}</code></td><td>{{ n.shape(leaf.shape) }}</td>
<td>{{ leaf.dtype }}</td><td>{{ n.size(leaf.norm_manual) }}</td>
<td>{{ n.with_bar(n.small(leaf.difference), leaf.error_bar) }}</td><td>{{ n.small(leaf.difference_autodiff) }}</td>
<td>{{ n.small(leaf.floor) }}</td><td>{{ n.small(leaf.floor_component) }}</td>
<td class="words {{ leaf.verdict.value }}" title="{{ meaning(leaf.reason.name) }}">{{ leaf.verdict.value }}
{%- if leaf.reason is not sameas agree %} {{ leaf.reason.name }}{% endif %}</td></tr>
{% endfor %}</table>{% endif %}
{% for line in words.blame(report) %}<p><strong>{{ line }}</strong></p>{% endfor %}
{% for leaf in detailed %}<h3><code>{{ leaf.path }}</code> {{ leaf.hint }} {{ leaf.note }}</h3>
{% if leaf.worst %}<table><tr><th>component</th><th>parameter</th><th title="{{ meaning('M') }}">M</th>
<th title="{{ meaning('N') }}">N</th><th title="{{ meaning('A') }}">A</th><th>note</th></tr>
{% for c in leaf.worst %}<tr><td><code>{{ c.name }}</code></td><td>{{ n.value(c.parameter) }}</td>
<td>{{ n.value(c.manual) }}</td><td>{{ n.with_bar(n.value(c.numeric), c.numeric_error) }}</td>
<td>{{ n.value(c.autodiff) }}</td><td class="words">{{ c.note }}</td></tr>
{% endfor %}</table>{% endif %}{% endfor %}
{% if report.rows %}<table><tr><th>group</th><th>name</th><th>status</th><th>difference</th><th>detail</th></tr>
{% for row in report.rows %}<tr><td>{{ row.group }}</td><td class="words">{{ row.name }}</td>
<td class="{{ row.status }}">{{ row.status }}</td><td>{{ n.small(row.difference) }}</td>
<td class="words">{{ row.detail }}</td></tr>
{% endfor %}</table>{% endif %}
{% for line in points %}<pre>{{ line }}</pre>{% endfor %}
{% for path, why in report.carried %}<p>carried along, not differentiable: <code>{{ path }}</code> ({{ why }})</p>
{% endfor %}
{% for line in words.footer(report) %}<p>{{ line }}</p>{% endfor %}
</div>
""".strip()

_PAGE = """
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title></head>
<body>{{ body }}
<script type="application/json" id="jaxcheck-reports">{{ data }}</script></body></html>
""".strip()


def fragment(report: Report) -> str:
    """The report as an HTML element, for a notebook. Without jinja2 it is the text in a `<pre>`."""
    try:
        environment = _environment()
    except ImportError:
        return f"<pre>{escape(text.render(report))}</pre>"
    return environment.from_string(_FRAGMENT).render(
        report=report,
        style=_STYLE,
        words=words,
        meaning=terms.meaning,
        n=numbers,
        agree=Reason.AGREE,
        leaves=report.leaves,
        detailed=[leaf for leaf in _bad_first(report) if leaf.hint or leaf.note or leaf.worst],
        points=[line.plain for line in tables.points(report)],
    )


def page(report: Report) -> str:
    """The report as a page that needs no other file, and holds its data. Raises ImportError without jinja2."""
    return _page(words.headline(report), [report])


def pages(reports: Sequence[Report], errors: Sequence[tuple[str, str]] = ()) -> str:
    """Several reports in one page, those that did not pass first, and what was raised by checks that came to none.
    Raises ImportError without jinja2."""
    verdicts = [report.verdict for report in reports]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in _WORST_FIRST if v in verdicts)
    title = f"{numbers.count(len(reports), 'gradient check')}: {counts}"
    title += f", {len(errors)} in error" if errors else ""
    raised = "\n".join(f"<p><strong>error in {escape(name)}</strong>: {escape(said)}</p>" for name, said in errors)
    return _page(title, sorted(reports, key=lambda report: _WORST_FIRST.index(report.verdict)), raised)


def _page(title: str, reports: Sequence[Report], before: str = "") -> str:
    # Inert data for `embedded`: JSON needs no `<` outside of strings, and inside them has another way to write it.
    data = stdlib_json.dumps([json.encode(report) for report in reports], allow_nan=False).replace("<", "\\u003c")
    body = "\n".join([before, *(fragment(report) for report in reports)])
    return _environment().from_string(_PAGE).render(title=title, body=_markup(body), data=_markup(data)) + "\n"


def embedded(text: str) -> str:
    """The JSON in a page. Raises ValueError where there is none."""
    found = _DATA.search(text)
    if found is None:
        raise ValueError("this HTML page holds no report: it was not written by jaxcheck, or by an earlier version")
    return found.group(1)


_DATA = re.compile(r'<script type="application/json" id="jaxcheck-reports">(.*?)</script>', re.DOTALL)
_WORST_FIRST = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)


def _bad_first(report: Report) -> list[LeafResult]:
    passed = [leaf for leaf in report.leaves if leaf.verdict is Verdict.PASS and (leaf.hint or leaf.note)]
    return [*numbers.troubled(report), *passed]


def _environment() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise ImportError("an HTML report needs jinja2: pip install 'jaxcheck[html]'") from error
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)


def _markup(html: str) -> Any:
    from markupsafe import Markup  # comes with jinja2

    return Markup(html)
