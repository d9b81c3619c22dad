"""Where a softmax or an activation saturates, gradients hold fewer digits than neighbours that round alike show.

The printed floors know it: an error above the floor that is printed beside the right gradient fails.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc


def attention(seed, sharpness):
    rng = np.random.default_rng(seed)
    params = {name: rng.normal(size=(4, 4)) for name in "qkv"}
    x = 2 * rng.normal(size=(6, 4))

    def loss(p):
        weights = jax.nn.softmax(sharpness * (x @ p["q"]) @ (x @ p["k"]).T, -1)
        return jnp.sum(jnp.sin(weights @ (x @ p["v"])))

    return loss, params


def gelu(seed, size):
    rng = np.random.default_rng(seed)
    params = {"w1": size * rng.normal(size=(5, 6)), "w2": size * rng.normal(size=(6, 6)), "w3": rng.normal(size=(6, 2))}
    x = rng.normal(size=(7, 5))

    def loss(p):
        return jnp.mean((jax.nn.gelu(jax.nn.gelu(x @ p["w1"]) @ p["w2"]) @ p["w3"]) ** 2)

    return loss, params


def turns(seed, size):
    rng = np.random.default_rng(seed)
    params, x = {"w": size * rng.normal(size=(3, 4, 4))}, rng.normal(size=(5, 4))

    def loss(p):
        return jnp.sum(jax.lax.scan(lambda h, w: (jax.nn.gelu(h @ w), None), x, p["w"])[0] ** 2)

    return loss, params


# Leaf `k` has a norm of 2e-7, 7e-6 and 6e-4 beside gradients of about 20; by 60 digits, float64 autodiff is off by
# 8e-7, 4e-9 and 1e-10 of it.
CASES = {
    "softmax, seed 2": (attention, 2, 4.0, "k"),
    "softmax, seed 4": (attention, 4, 4.0, "k"),
    "softmax, seed 7": (attention, 7, 4.0, "k"),
    "gelu": (gelu, 3, 8.0, "w2"),
    "gelu in a scan": (turns, 2, 8.0, "w"),
}


@pytest.fixture(scope="module", params=CASES)
def problem(request):
    make, seed, size, name = CASES[request.param]
    with jax.enable_x64(True):
        loss, params = make(seed, size)
        report = jc.check_grad(loss, params, jax.grad(loss), where=False)
        assert report.verdict is jc.Verdict.PASS, str(report)
        yield loss, params, report[name]


@pytest.mark.slow
def test_no_component_is_harder_to_see_than_the_one_that_the_floor_is_found_on():
    """Nothing saturates here; but a large entry may be off by more of the leaf than a small one."""
    with jax.enable_x64(True):
        loss, params = attention(3, 0.3)
        floor = jc.check_grad(loss, params, jax.grad(loss), where=False)["v"].floor_component
        for index in [(0, 1), (0, 3), (2, 2), (3, 0)]:

            def grad(p, index=index):
                g = dict(jax.grad(loss)(p))
                g["v"] = g["v"].at[index].add(2 * floor * jnp.linalg.norm(g["v"]))
                return g

            assert jc.check_grad(loss, params, grad, where=False)["v"].verdict is jc.Verdict.FAIL, index


@pytest.mark.parametrize("times", [2.0, 20.0])
@pytest.mark.parametrize("what", ["whole", "component"])
def test_an_error_above_the_printed_floor_fails(problem, what, times):
    loss, params, leaf = problem
    size = times * (leaf.floor if what == "whole" else leaf.floor_component)

    def grad(p):
        g = dict(jax.grad(loss)(p))
        right = g[leaf.path]
        g[leaf.path] = right * (1 + size) if what == "whole" else right.at[1, 2].add(size * jnp.linalg.norm(right))
        return g

    report = jc.check_grad(loss, params, grad, where=False)
    assert report[leaf.path].verdict is jc.Verdict.FAIL, f"{size:g} passes\n{report}"


def _as_jax(f):
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda x: (f(x), x), lambda x, g: jax.vjp(f, x)[1](g))
    return rule


SATURATED = {
    "softmax": (_as_jax(lambda x: jax.nn.softmax(x)), 20 * np.array([0.3, -0.7, 1.1, 0.0, 2.0]), 1),
    "logsumexp": (_as_jax(lambda x: jax.nn.logsumexp(x)), np.array([30.0, -5.0, 3.0]), 2),
    "log softmax": (_as_jax(lambda x: -jax.nn.log_softmax(x)[:1]), np.array([30.0, -5.0, 3.0]), 2),
    "of two": (_as_jax(lambda x: (x - x.mean()) / jnp.sqrt(x.var() + 1e-12)), np.array([0.3, -0.7]), 2),
}


@pytest.mark.parametrize("name", SATURATED)
def test_no_law_accuses_of_what_cancels(name):
    """All alike, cotangents leave nothing of a softmax; p (1 - p) is known to 1e-16 / (1 - p)."""
    f, x, order = SATURATED[name]
    report = jc.check_rule(f, jnp.asarray(x, jnp.float32), order=order, transforms=False, where=False)
    assert report.verdict is not jc.Verdict.FAIL, report
    assert not any(row.status == "WRONG" for row in report.rows)
