"""Lines that are right, and that a change would repair all the same: what only passes on, or shares, or makes use of
what another line did wrong. The line with the mistake is named, or is among those that are."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from tests.where import build

pytestmark = pytest.mark.where

RNG = np.random.default_rng(3)


def draw(*shape):
    return RNG.normal(size=shape)


def named(source, right, wrong, params, *args, where=True):
    """The lines that are named with one mistake planted, and that of the mistake."""
    assert source.count(right) == 1
    text = source.replace(right, wrong)
    found = build.module("innocent", "import jax\nimport jax.numpy as jnp\n" + text)
    report = jc.check_grad(found.loss, params, found.back, args=args, where=where)
    assert report.verdict == "FAIL"
    line = next(n for n, said in enumerate(text.splitlines(), 3) if wrong in said)
    return [c.line for c in report.culprits], line, report


# A gradient by autodiff, changed afterwards: the loss's own functions have no part in that.
AFTERWARDS = """
def fwd(p, x):
    h = jnp.tanh(x @ p["w1"] + p["b1"])
    o = h @ p["w2"]
    return o

def loss(p, x):
    o = fwd(p, x)
    return jnp.mean(o**2)

def back(p, x):
    g = jax.grad(loss)(p, x)
    g = jax.tree.map(lambda v: v, g)
    return g
"""


@pytest.mark.parametrize("change", ["lambda v: 1.01 * v", "jnp.negative", "lambda v: v / 6", "lambda v: 2 * v"])
def test_what_is_done_to_the_gradients_of_autodiff(change):
    params = {"w1": draw(4, 8), "b1": draw(8), "w2": draw(8, 2)}
    lines, line, _ = named(AFTERWARDS, "lambda v: v, g", f"{change}, g", params, draw(6, 4))
    assert lines == [line]


# One operation too many, on a line of its own; the next line makes use of what it gives.
TOO_MANY = """
def up(d, v):
    out = d @ v.T
    return out

def loss(p, x):
    z = x @ p["w"]
    return jnp.sum((jax.nn.softplus(z) @ p["v"]) ** 2)

def back(p, x):
    z = x @ p["w"]
    a = jax.nn.softplus(z)
    y = a @ p["v"]
    dy = 2 * y
    da = dy @ p["v"].T
    s = jax.nn.sigmoid(z)
    dz = da * s
    return {"w": x.T @ dz, "v": a.T @ dy}
"""


@pytest.mark.parametrize(
    "wrong",
    [
        "jnp.roll(dy @ p['v'].T, 1, 1)",
        "jnp.sort(dy @ p['v'].T, 0)",
        "(dy @ p['v'].T).astype(jnp.int32)",
        "(dy @ p['v'].T)[::-1]",
        "up(dy, p['v'])[::-1]",
        "jnp.flip(up(dy, p['v']), 0)",
        "jnp.abs(dy @ p['v'].T)",
    ],
)
def test_an_operation_too_many(wrong):
    params = {"w": draw(4, 4), "v": draw(4, 2)}
    lines, line, _ = named(TOO_MANY, 'da = dy @ p["v"].T', f"da = {wrong}", params, draw(4, 4))
    assert lines == [line]


# A forgotten link of the chain of the loss, of which two lines make use.
LINK = """
def loss(p, x, eps):
    mu, lv = x @ p["mu"], x @ p["lv"]
    z = mu + jnp.exp(0.5 * lv) * eps
    return jnp.sum(jnp.tanh(z) @ p["v"]){more}

def back(p, x, eps):
    mu, lv = x @ p["mu"], x @ p["lv"]
    std = jnp.exp(0.5 * lv)
    z = mu + std * eps
    t = jnp.tanh(z)
    dz = (1 - t**2) * p["v"]
    dlv = dz * 0.5 * std * eps{back}
    return {{"mu": x.T @ dz, "lv": x.T @ dlv, "v": t.sum(0)}}
"""
PLAIN = LINK.format(more="", back="")
SHARED = LINK.format(more=" + jnp.sum(jnp.exp(lv))", back=" + jnp.exp(lv)")


@pytest.mark.parametrize(
    ("source", "wrong"), [(PLAIN, "0.5 * lv"), (PLAIN, "jnp.exp(lv)"), (SHARED, "jnp.exp(lv)")], ids=range(3)
)
def test_one_mistake_before_two_lines_is_not_told_as_two(source, wrong):
    params = {"mu": draw(4, 3), "lv": draw(4, 3), "v": draw(3)}
    lines, line, _ = named(source, "std = jnp.exp(0.5 * lv)", f"std = {wrong}", params, draw(5, 4), draw(5, 3))
    assert lines == [line]


# What a helper is given in one piece and does not read; what it gives back, and what is made of that.
HELPER = """
def norm(p, x):
    mu, var = x.mean(0), x.var(0)
    inv = jax.lax.rsqrt(var + 0.01)
    xhat = (x - mu) * inv
    return p["gamma"] * xhat + p["beta"], (xhat, inv)

def norm_back(p, kept, dy):
    xhat, inv = kept
    n = len(xhat)
    dxh = dy * p["gamma"]
    dx = inv / n * (n * dxh - dxh.sum(0) - xhat * (dxh * xhat).sum(0))
    return dx, {"gamma": (dy * xhat).sum(0), "beta": dy.sum(0)}

def loss(p, x):
    return jnp.sum(jnp.sin(norm(p["bn"], x @ p["w"])[0]))

def back(p, x):
    y, kept = norm(p["bn"], x @ p["w"])
    dz, dbn = norm_back(p["bn"], kept, jnp.cos(y))
    return {"w": x.T @ dz, "bn": dbn}
"""


@pytest.mark.parametrize(
    ("right", "wrong"), [("dx = inv / n *", "dx = 1 / n *"), ("dxh = dy * p", "dxh = dy + p")], ids=range(2)
)
def test_what_a_helper_makes_is_not_to_be_repaired_by_who_calls_it(right, wrong):
    params = {"w": draw(4, 5), "bn": {"gamma": 1 + draw(5) / 4, "beta": draw(5)}}
    lines, line, _ = named(HELPER, right, wrong, params, draw(8, 4))
    assert line in lines and len(lines) <= 2


LOOP = """
def slope(z):
    return jax.nn.sigmoid(z)

def fwd(ws, x):
    acts, pre = [x], []
    for w in ws:
        pre.append(acts[-1] @ w)
        acts.append(jax.nn.softplus(pre[-1]))
    return acts, pre

def loss(ws, x):
    return jnp.sum(fwd(ws, x)[0][-1] ** 2)

def back(ws, x):
    acts, pre = fwd(ws, x)
    d = 2 * acts[-1]
    out = []
    for i in range(len(ws) - 1, -1, -1):
        d = d * slope(pre[i])
        out.append(acts[i].T @ d)
        d = d @ ws[i].T
    return out[::-1]
"""


def test_the_call_in_a_loop_and_not_the_helper_that_is_called():
    lines, line, _ = named(
        LOOP, "slope(pre[i])", "slope(acts[i + 1])", [draw(4, 3), draw(3, 5), draw(5, 2)], draw(6, 4)
    )
    assert lines == [line]


# Six turns of a loop: all changes of all of them take longer than the search may.
GRU = """
def cell(p, h, x):
    z = jax.nn.sigmoid(x @ p["Wz"] + h @ p["Uz"])
    r = jax.nn.sigmoid(x @ p["Wr"] + h @ p["Ur"])
    c = jnp.tanh(x @ p["Wc"] + (r * h) @ p["Uc"])
    return (1 - z) * h + z * c, (z, r, c)

def loss(p, xs, t):
    h, _ = jax.lax.scan(lambda h, x: (cell(p, h, x)[0], None), jnp.zeros(4), xs)
    return jnp.sum((h - t) ** 2)

def back(p, xs, t):
    def f(h, x):
        new, kept = cell(p, h, x)
        return new, (h, x, *kept)

    h, saved = jax.lax.scan(f, jnp.zeros(4), xs)

    def b(carry, s):
        dh, g = carry
        h, x, z, r, c = s
        dz = dh * (c - h)
        daz = dz * z * (1 - z)
        dac = dh * z * (1 - c**2)
        drh = dac @ p["Uc"].T
        dar = drh * h * r * (1 - r)
        before = dh * (1 - z) + drh * r + daz @ p["Uz"].T + dar @ p["Ur"].T
        new = {"Wz": jnp.outer(x, daz), "Uz": jnp.outer(h, daz), "Wr": jnp.outer(x, dar), "Ur": jnp.outer(h, dar)}
        new |= {"Wc": jnp.outer(x, dac), "Uc": jnp.outer(r * h, dac)}
        return (before, jax.tree.map(jnp.add, g, new)), None

    dh = 2 * (h - t)
    (_, g), _ = jax.lax.scan(b, (dh, jax.tree.map(jnp.zeros_like, p)), saved, reverse=True)
    return g
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("dh = 2 * (h - t)", "dh = (h - t)"),
        ("dac = dh * z * (1 - c**2)", "dac = dh * z * (1 - c)"),
        ('daz @ p["Uz"].T', 'daz @ p["Uz"]'),
    ],
    ids=range(3),
)
@pytest.mark.slow
def test_loops_of_some_turns_are_searched_with_two(right, wrong):
    params = {w + n: draw(3 if w == "W" else 4, 4) for w in "WU" for n in "zrc"}
    lines, line, report = named(GRU, right, wrong, params, draw(6, 3), draw(4), where=60)
    if not right.startswith("dh"):
        assert lines == [line]
    else:  # what is added up may as well be added twice
        assert line in lines and len(lines) == 2
        assert "dh = (2 * (h - t))" in [c.edit for c in report.culprits]


def test_a_search_that_does_not_end_says_so():
    found = build.module("innocent", "import jax\nimport jax.numpy as jnp\n" + GRU.replace("1 - c**2", "1 - c"))
    params = {w + n: draw(3 if w == "W" else 4, 4) for w in "WU" for n in "zrc"}
    report = jc.check_grad(found.loss, params, found.back, args=(draw(6, 3), draw(4)), where=0.05)
    assert report.verdict == "FAIL" and not report.culprits
    assert any("did not end within 0.05 s" in note for note in report.notes)


@pytest.mark.parametrize("where", [-1, -0.5, "yes", float("nan"), float("inf"), None])
def test_seconds_that_are_none_are_refused(where):
    with pytest.raises((TypeError, ValueError), match="where="):
        jc.check_grad(lambda w: w, 1.0, where=where)
    with pytest.raises((TypeError, ValueError), match="where="):
        jc.check_rule(jnp.sin, 1.0, where=where)


def test_one_less_a_cotangent_is_no_rule():
    """It would be right where the other factor has no mean; a rule is linear in its cotangent."""
    source = """import jax
import jax.numpy as jnp

@jax.custom_vjp
def layer_norm(x):
    xc = x - x.mean(-1, keepdims=True)
    return xc / jnp.sqrt((xc**2).mean(-1, keepdims=True) + 0.01)

def fwd(x):
    xc = x - x.mean(-1, keepdims=True)
    inv = 1 / jnp.sqrt((xc**2).mean(-1, keepdims=True) + 0.01)
    return xc * inv, (xc * inv, inv)

def bwd(kept, dy):
    xhat, inv = kept
    m1 = dy.mean(-1, keepdims=True)
    m2 = (dy * xhat).mean(-1, keepdims=True)
    return (inv * (dy - m1 + xhat * m2),)

layer_norm.defvjp(fwd, bwd)
"""
    found = build.module("law", source)
    report = jc.check_rule(found.layer_norm, draw(6, 8), level="quick", algebra=False)
    assert report.verdict == "FAIL" and report.culprits
    assert not any("1 - dy" in c.edit for c in report.culprits)
