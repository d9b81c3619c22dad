"""The wrong line of a backward pass, in words."""

from __future__ import annotations

import itertools
import os

from jaxcheck.report import numbers
from jaxcheck.result import Culprit, Report

_INTRODUCED = {"line": "this line:", "one of": "one of these lines:", "value": "what this line should give:"}


def mistakes(report: Report) -> list[tuple[str, list[Culprit]]]:
    """What is said of each mistake, and the line that is it, or those of which one is."""
    found = []
    for (kind, leaves), those in itertools.groupby(report.culprits, lambda c: (c.kind, c.leaves)):
        said = (
            f"{_INTRODUCED.get(kind, '')} changed, {numbers.names(leaves)} "
            f"{'is' if len(leaves) == 1 else 'are'} right, here and at another point"
        )
        found.append((said, list(those)))
    return found


def lines(report: Report) -> list[str]:
    """Where, what stands there, and what makes the leaves right; [] where no line is known."""
    said = []
    for told, those in mistakes(report):
        said.append(told)
        for culprit in those:
            said.append(f"  {place(culprit)}  {culprit.source or '(no source)'}")
            said.append(f"    with {culprit.what}" + (f":  {culprit.edit}" if culprit.edit else ""))
    return said


def place(culprit: Culprit) -> str:
    """`model.py:47`."""
    return f"{os.path.basename(culprit.file)}:{culprit.line}"


def short(report: Report) -> str:
    """` at model.py:47`, or "": for a single line of text. One line or the other where one of them is the mistake, one
    and the other where each is one."""
    each = dict.fromkeys(" or ".join(dict.fromkeys(map(place, those))) for _, those in mistakes(report))
    return f" at {' and '.join(each)}" if each else ""
