"""Every rule call is found, and its owner told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_strip import (
    RULES,
    WRAPPERS,
    X,
    _equinox_rules,
    gradient_rule,
    jvp_rule,
    outer_rule,
    vjp_rule,
)

from jaxcheck.program.custom.census import RuleInfo, find_rules, has_stop_gradient
from jaxcheck.program.custom.owner import origin_of


@pytest.mark.parametrize("rule", RULES)
def test_the_users_rules_are_the_users(rule):
    for wrap in WRAPPERS.values():
        found = find_rules(wrap(RULES[rule]))(X)
        assert found and {r.origin for r in found} == {"user"}


def test_what_is_known_of_a_rule():
    (found,) = find_rules(jax.jit(lambda x: lax.scan(
        lambda c, t: (vjp_rule(c) + t, None), x[0], x)[0]))(np.ones(4, np.float32))  # fmt: skip
    assert isinstance(found, RuleInfo)
    assert (found.name, found.kind, found.origin) == ("vjp_rule", "custom_vjp", "user")
    assert found.file.endswith("test_strip.py") and found.line > 1
    assert found.in_shapes == ("f32[]",) and found.out_shapes == ("f32[]",)
    assert found.where == "jit(<lambda>) > scan > body"


def test_branches_and_nested_rules():
    found = find_rules(lambda x: lax.cond(x > 0, outer_rule, jvp_rule, x))(X)
    places = [(r.name, r.where) for r in found]
    assert places == [
        ("jvp_rule", "cond > branch 0"),
        ("outer_rule", "cond > branch 1"),
        ("vjp_rule", "cond > branch 1 > custom_vjp_call"),
        ("jvp_rule", "cond > branch 1 > custom_vjp_call"),
    ]


def test_while_says_which_half():
    def f(x):
        return lax.while_loop(lambda c: c < 1, lambda c: jvp_rule(c) + 1, x)

    (found,) = find_rules(f)(X)
    assert found.where == "while > body"


def test_wrappers_are_looked_through():
    (found,) = find_rules(gradient_rule)(X)
    assert found.name == "gradient_rule" and found.file.endswith("test_strip.py")
    for rule in _equinox_rules().values():
        mine = [r for r in find_rules(rule)(X) if r.origin == "user"]
        assert len(mine) == 1 and mine[0].file.endswith("test_strip.py")


def test_jax_rules_are_jaxs():
    for f in (jax.nn.relu, jax.nn.softplus, jax.nn.logsumexp, jnp.logaddexp):
        args = (X, X) if f is jnp.logaddexp else (X,)
        assert {r.origin for r in find_rules(f)(*args)} <= {"jax"}
    assert find_rules(jax.nn.relu)(X)[0].origin == "jax"
    assert find_rules(jnp.sin)(X) == ()


def test_libraries_rules_are_third_party():
    optax = pytest.importorskip("optax")
    found = find_rules(lambda x: optax.projections.projection_simplex(x).sum())(np.ones(3))
    assert "user" not in {r.origin for r in found}


def test_origins():
    assert origin_of(jax.__file__) == "jax"
    assert origin_of(pytest.__file__) == "third_party"
    assert origin_of(__file__) == "user"
    assert origin_of("<stdin>") == origin_of("<unknown>") == "user"


def test_nothing_is_executed():
    def f(x):
        jax.debug.callback(lambda v: 1 / 0, x)
        return vjp_rule(x)

    assert len(find_rules(f)(X)) == 1


def test_stop_gradient_is_seen():
    assert has_stop_gradient(jax.make_jaxpr(jax.jit(lambda x: x * lax.stop_gradient(x)))(X))
    assert not has_stop_gradient(jax.make_jaxpr(lambda x: x * x)(X))
