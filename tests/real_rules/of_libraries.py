"""Rules of Optax, Equinox, Lineax, Optimistix, Diffrax, jaxopt and Flax; a package that is absent has none."""

from __future__ import annotations

import importlib.util

import jax
import jax.numpy as jnp

from . import Rule, numbers, spd

V, W, POS, S = numbers(5), numbers(4, 3), numbers(5, seed=1, low=0.5, high=2.0), spd(3)
LABELS = jnp.array([0, 2, 1, 1])


def optax_rules():
    import optax

    yield Rule("optax.safe_norm", lambda x: optax.safe_norm(x, 1e-3), (V,))
    yield Rule("optax.safe_root_mean_squares", lambda x: optax.safe_root_mean_squares(x, 1e-3), (V,))
    yield Rule("optax.huber_loss", optax.huber_loss, (3 * V, POS))
    yield Rule("optax.log_cosh", optax.log_cosh, (V, POS))
    yield Rule("optax.cosine_distance", lambda x, y: optax.cosine_distance(x, y, epsilon=1e-6), (V, POS))
    yield Rule("optax.softmax_ce", optax.softmax_cross_entropy, (W, jax.nn.one_hot(LABELS, 3)))
    yield Rule("optax.softmax_ce int", optax.softmax_cross_entropy_with_integer_labels, (W, LABELS))
    yield Rule("optax.sigmoid_bce", optax.sigmoid_binary_cross_entropy, (V, (POS > 1).astype(jnp.float32)))
    yield Rule(
        "optax.sigmoid_focal_loss", lambda x: optax.sigmoid_focal_loss(x, (POS > 1).astype(jnp.float32)), (V,), order=1
    )
    yield Rule("optax.kl_divergence", optax.kl_divergence, (jax.nn.log_softmax(W), jax.nn.softmax(2 * W)), order=1)
    yield Rule("optax.ctc_loss", lambda x: optax.ctc_loss(x[None], jnp.zeros((1, 4)), jnp.array([[1, 2]]),
                                                         jnp.zeros((1, 2))), (W,), order=1)  # fmt: skip
    yield Rule("optax.sparsemax_loss", optax.losses.sparsemax_loss, (V, (POS > 1).astype(jnp.int32)), order=1)
    yield Rule("optax.projection_simplex", optax.projections.projection_simplex, (V,), order=1)


def equinox_rules():
    import equinox as eqx

    @eqx.filter_custom_vjp
    def scaled(x, y):
        return x * jnp.sin(y)

    scaled.def_fwd(lambda perturbed, x, y: (x * jnp.sin(y), None))
    scaled.def_bwd(lambda _, g, perturbed, x, y: g * jnp.sin(y))
    yield Rule("eqx.filter_custom_vjp", lambda x: scaled(x, POS), (V,), order=1, modes=("rev",))

    @eqx.filter_custom_jvp
    def power(x, n):
        return x**n

    @power.def_jvp
    def _(primals, tangents):
        (x, n), (t, _) = primals, tangents
        return power(x, n), n * x ** (n - 1) * t

    yield Rule("eqx.filter_custom_jvp", lambda x: power(x, 3), (POS,))
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0), activation=jax.nn.softplus)
    weights, rest = eqx.partition(model, eqx.is_inexact_array)
    yield Rule("eqx.nn.MLP", lambda w, x: eqx.combine(w, rest)(x), (weights, W[0]))
    yield Rule("eqx.nn.LayerNorm", lambda x: eqx.nn.LayerNorm(5)(x), (V,))
    yield Rule("eqx.filter_checkpoint", eqx.filter_checkpoint(lambda x: jnp.sin(x) ** 2), (V,))
    yield Rule("eqx.internal while checkpointed", lambda x: eqx.internal.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x), max_steps=4, kind="checkpointed")[1], (V,),
        order=1, modes=("rev",), slow=True)  # fmt: skip


def lineax_rules():
    import lineax as lx

    def solve(solver, tags=()):
        return lambda a, b: lx.linear_solve(lx.MatrixLinearOperator(a, tags), b, solver).value

    yield Rule("lx.LU", solve(lx.LU()), (S, V[:3]))
    yield Rule("lx.QR", solve(lx.QR()), (W, numbers(4)), order=1)
    yield Rule("lx.SVD", solve(lx.SVD()), (W, numbers(4)), order=1)
    yield Rule("lx.Cholesky", lambda a, b: solve(lx.Cholesky(), lx.positive_semidefinite_tag)((a + a.T) / 2, b), (S,
         V[:3]),
               order=1)  # fmt: skip
    yield Rule("lx.CG", lambda a, b: solve(lx.CG(1e-12, 1e-12), lx.positive_semidefinite_tag)((a + a.T) / 2, b),
               (S, V[:3]), order=1, slow=True)  # fmt: skip
    yield Rule("lx.Tridiagonal", lambda d, l, u, b: lx.linear_solve(lx.TridiagonalLinearOperator(d, l, u), b).value,
               (POS + 3, V[:4], V[1:], V), order=1)  # fmt: skip


def optimistix_rules():
    import optimistix as optx

    def root(x):
        return optx.root_find(lambda y, x: y**3 + y - x, optx.Newton(1e-10, 1e-10), jnp.zeros_like(x), args=x).value

    def fixed(x):
        return optx.fixed_point(lambda y, x: jnp.cos(y) * x / 4, optx.FixedPointIteration(1e-10, 1e-10),
             jnp.zeros_like(x),
                                args=x).value  # fmt: skip

    def least(x):
        return optx.least_squares(lambda y, x: jnp.stack([y - x, 0.3 * (y**2 - 1)]), optx.LevenbergMarquardt(1e-10,
             1e-10),
                                  jnp.zeros_like(x), args=x).value  # fmt: skip

    def least_of(x):
        return optx.minimise(lambda y, x: jnp.sum((y - x) ** 2 + 0.1 * y**4), optx.BFGS(1e-10, 1e-10),
             jnp.zeros_like(x),
                             args=x).value  # fmt: skip

    yield Rule("optx.root_find", root, (jnp.float32(0.7),), order=1)
    yield Rule("optx.fixed_point", fixed, (jnp.float32(0.7),), order=1)
    yield Rule("optx.least_squares", least, (jnp.float32(0.7),), order=1, slow=True)
    yield Rule("optx.minimise", least_of, (V[:2],), order=1, slow=True)


def diffrax_rules():
    import diffrax as dfx

    def decay(adjoint):
        def f(y, k):
            term = dfx.ODETerm(lambda t, y, k: -k * y)
            return dfx.diffeqsolve(term, dfx.Heun(), 0.0, 0.3, 0.1, y, k, adjoint=adjoint, max_steps=8).ys

        return f

    yield Rule("dfx.RecursiveCheckpointAdjoint", decay(dfx.RecursiveCheckpointAdjoint()), (V[:2], jnp.float32(1.5)),
         order=1,
               modes=("rev",), slow=True)  # fmt: skip
    yield Rule("dfx.DirectAdjoint", decay(dfx.DirectAdjoint()), (V[:2], jnp.float32(1.5)), order=1, slow=True)
    yield Rule(
        "dfx.ForwardMode", decay(dfx.ForwardMode()), (V[:2], jnp.float32(1.5)), order=1, modes=("fwd",), slow=True
    )


def jaxopt_rules():
    import jaxopt

    def ridge(l2, x):
        solver = jaxopt.GradientDescent(lambda w, l2: jnp.sum((x @ w - 1) ** 2) + l2 * jnp.sum(w**2), tol=1e-12,
                                        maxiter=500, implicit_diff=True)  # fmt: skip
        return solver.run(jnp.zeros(3, x.dtype), l2).params

    @jaxopt.implicit_diff.custom_root(lambda y, x: y**3 + y - x)
    def root(init, x):
        return jax.lax.fori_loop(0, 30, lambda _, y: y - (y**3 + y - x) / (3 * y**2 + 1), jnp.zeros_like(x))

    yield Rule(
        "jaxopt.GradientDescent", lambda l2: ridge(l2, W), (jnp.float32(0.5),), order=1, modes=("rev",), slow=True
    )
    yield Rule("jaxopt.custom_root", lambda x: root(None, x), (jnp.float32(0.7),), order=1, modes=("rev",))
    yield Rule("jaxopt.projection_simplex", jaxopt.projection.projection_simplex, (V,), order=1, modes=("rev",))
    yield Rule(
        "jaxopt.sparse_plus",
        jaxopt.loss.binary_sparsemax_loss,
        (jnp.int32(1), jnp.float32(0.3)),
        order=1,
        modes=("rev",),
    )
    yield Rule("jaxopt.prox_lasso", lambda x: jaxopt.prox.prox_lasso(x, 0.2), (V,), order=1, modes=("rev",))


def flax_rules():
    import flax.linen as nn

    module = nn.Sequential([nn.Dense(4), nn.LayerNorm(), nn.gelu, nn.Dense(2)])
    weights = module.init(jax.random.key(0), W)
    yield Rule("flax.linen", module.apply, (weights, W), order=1)


PACKAGES = {"optax": optax_rules, "equinox": equinox_rules, "lineax": lineax_rules, "optimistix": optimistix_rules,
            "diffrax": diffrax_rules, "jaxopt": jaxopt_rules, "flax": flax_rules}  # fmt: skip


def rules_of(package: str) -> list[Rule]:
    return list(PACKAGES[package]()) if importlib.util.find_spec(package) else []
