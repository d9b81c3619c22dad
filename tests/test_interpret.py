"""The evaluator gives what JAX gives, whatever the program is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_strip import WRAPPERS, X, vjp_rule

from jaxcheck.program import interpret


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_evaluation_is_jaxs(wrap):
    f = WRAPPERS[wrap](vjp_rule)
    closed = jax.make_jaxpr(f)(X)
    run = lambda x: interpret.evaluate(closed, [x])[0]  # noqa: E731
    assert run(X) == f(X)
    assert jax.grad(run)(X) == jax.grad(f)(X)  # the rule is bound again with its equation
    assert jax.jit(run)(X) == jax.jit(f)(X)


def test_handlers_take_over():
    closed = jax.make_jaxpr(lambda x: jnp.sin(x) * 2.0)(X)

    def handle(eqn, operands):
        return [-operands[0]] if eqn.primitive.name == "sin" else interpret.bind(eqn, operands)

    assert interpret.evaluate(closed, [X], handle)[0] == -2 * X


def test_values_are_opaque():
    closed = jax.make_jaxpr(lambda x, y: (x * y + 1.0, y))(X, X)
    names = interpret.evaluate(
        closed, ["x", "y"],
        lambda eqn, operands: [f"{eqn.primitive.name}({', '.join(operands)})"],
        lambda value, aval: str(float(value)),
    )  # fmt: skip
    assert names == ["add(mul(x, y), 1.0)", "y"]


def test_constants_and_counts():
    table = np.arange(4, dtype=np.float32)
    closed = jax.make_jaxpr(lambda i: jnp.asarray(table)[i])(np.int32(2))
    assert interpret.evaluate(closed, [np.int32(3)])[0] == 3
    with pytest.raises(TypeError, match="1 arguments, got 2"):
        interpret.evaluate(closed, [1, 2])


def test_walk_visits_everything():
    closed = jax.make_jaxpr(jax.jit(lambda x: lax.fori_loop(0, 2, lambda i, c: jnp.sin(c), x)))(X)
    names = {site.eqn.primitive.name for site in interpret.walk(closed)}
    assert {"sin", "scan", "jit"} <= names or {"sin", "while", "jit"} <= names
    (path,) = {s.path for s in interpret.walk(closed) if s.eqn.primitive.name == "sin"}
    assert path[0] == "jit(<lambda>)" and path[-1] == "body"


def test_map_jaxprs_keeps_containers():
    matrix = np.eye(2, dtype=np.float32) * 3
    closed = jax.make_jaxpr(jnp.linalg.solve)(matrix, np.ones(2, np.float32))
    eqn = next(s.eqn for s in interpret.walk(closed) if "linear_solve" in s.eqn.primitive.name)
    seen = []
    same = interpret.map_jaxprs(eqn.params, lambda j: seen.append(j) or j)
    assert len(seen) == 4 and type(same["jaxprs"]) is type(eqn.params["jaxprs"])


def test_modes_are_told():
    with jax.enable_x64(True):
        wide = jax.make_jaxpr(jax.jit(lambda x: x.astype(jnp.float64)))(X)
    assert interpret.has_64_bits(wide)
    assert not interpret.has_64_bits(jax.make_jaxpr(jnp.sin)(X))
