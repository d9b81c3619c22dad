"""Changes on a line that makes no operation: `b = a`, where more was to be done with `a`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jaxcheck.program.where import source
from jaxcheck.program.where.edits import OUT
from jaxcheck.program.where.search import Found


def with_aliases(found: Sequence[Found], price: Callable[[dict[str, Any]], float]) -> list[Found]:
    """What was found, and the same once more on the line that hands the changed value on under another name: there it
    does not matter that the value itself was right."""
    out = list(found)
    for one in found:
        if one.edit.slot != OUT:
            continue
        for place in source.aliases(one.edit.site.place):
            site = dataclasses.replace(one.edit.site, place=place)
            known = one.fields["was"]
            fields = one.fields | dict(where=place[:2], was=False, inputs=known, entering=known, passed_on=False)
            out.append(Found(dataclasses.replace(one.edit, site=site), fields, price(fields)))
    return out
