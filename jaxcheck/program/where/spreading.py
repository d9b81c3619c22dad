"""Factors that spread a value along axes in which it has length 1: `e[:, None]` that was to be `e[:, None] * v`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaxcheck.program.where.edits import OUT, WIDER, Edit, widens
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Group, Site


def factors(problem: Problem, site: Site, sources: Sequence[Group]) -> Iterator[Edit]:
    """Values of the pass that a site's result may lack as a factor. Those alone that make a value of the loss of it: on
    the next line, where it is transformed or summed, the same factor would do as well."""
    tape, values = problem.tape, problem.runs[0]
    outs = [values[tape.ops[k].outs[0]] for k in site.ops]
    if outs[0].dtype.kind not in "fc" or 1 not in outs[0].shape or outs[0].size == 1:
        return
    for group in sources:
        if group.what != "own" or len(group.ids) not in (1, len(outs)) or group.made[0] >= site.ops[0]:
            continue
        x, edit = values[group.ids[0]], Edit(site, OUT, WIDER, (group,))
        new = problem.first(edit) if x.dtype.kind in "fc" and widens(x, outs[0].shape) else None
        if new is not None and new in problem.known:
            yield edit
