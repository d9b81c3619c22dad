"""What a change of a rule may bring in, and do, and still be one of a rule."""

from __future__ import annotations

import functools

from jaxcheck.program.where.edits import OUT, UNARY, Edit
from jaxcheck.program.where.sites import Group, Site
from jaxcheck.program.where.tape import Tape

# Values of the loss that are made with its cotangents.
_WITH = ("use", "cotangent")


class Reach:
    """Of a whole backward pass, which is given no cotangents, all is allowed.

    Args:
        users: the operations that read each value.
        count: inputs of the loss; those that follow are the cotangents of its rule.
        backward: file and name of the rule's backward pass.
    """

    def __init__(self, tape: Tape, users: dict[int, list[int]], count: int, backward: tuple[str, str]):
        self.tape, self.users, self.backward = tape, users, backward
        self._given = tape.inputs[count:]

    def allows(self, edit: Edit) -> bool:
        if not self._cotangents:
            return True
        return self._is_linear(edit) and all(self._in_reach(group, edit.site) for group in edit.groups)

    def _in_reach(self, group: Group, site: Site) -> bool:
        """Whether a value can be had at a site of a rule. The cotangents are given to its backward pass alone: what its
        forward pass keeps for it is made without them, and so is what a function does that is given nothing of them.
        And of what the forward pass makes the other has what it is seen to make use of."""
        if self._is_made_with(group):
            function = site.place.function
            return function in self._knowing or (site.place.file, function.rsplit(".", 1)[-1]) == self.backward
        made = [k for k in group.made if k >= 0]
        here = {place.function for place in self.tape.ops[site.ops[0]].stack}
        there_too = [*made[:1], *(k for i in group.ids[:1] for k in self.users.get(i, ()))]
        return not made or any(place.function in here for k in there_too for place in self.tape.ops[k].stack)

    def _is_made_with(self, group: Group) -> bool:
        return group.what in _WITH or not self._cotangents.isdisjoint(group.ids)

    def _is_linear(self, edit: Edit) -> bool:
        """Whether what depends on the cotangents is still linear in them where it is changed."""
        op = self.tape.ops[edit.site.ops[0]]
        if edit.other is not None or (op.outs[0] if edit.slot == OUT else op.ins[edit.slot]) not in self._cotangents:
            return True
        brought = [self._is_made_with(group) for group in edit.groups]
        if edit.form in UNARY:
            return False
        if edit.form in ("times", "over"):
            return not any(brought)
        return any(brought) or not edit.form.startswith("plus")

    @functools.cached_property
    def _cotangents(self) -> set[int]:
        """The cotangents of a rule, and what is made of them."""
        found = set(self._given)
        for op in self.tape.ops:
            if not found.isdisjoint(op.ins):
                found.update(op.outs)
        return found

    @functools.cached_property
    def _knowing(self) -> set[str]:
        """The functions that do something with one of them, and those that they are called by."""
        return {place.function for op in self.tape.ops if not self._cotangents.isdisjoint(op.ins) for place in op.stack}
