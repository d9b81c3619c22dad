"""Log likelihood of a mixture of diagonal Gaussians."""

import jax
import jax.numpy as jnp


def point(r):
    return {"mu": r(3, 4), "logsd": 0.3 * r(3, 4), "logit": r(3)}, (r(10, 4),)


def joint(p, x):
    z = (x[:, None, :] - p["mu"]) / jnp.exp(p["logsd"])
    logp = -0.5 * jnp.sum(z**2, axis=2) - jnp.sum(p["logsd"], axis=1)
    return z, logp + jax.nn.log_softmax(p["logit"])


def loss(p, x):
    _, j = joint(p, x)
    return -jnp.mean(jax.scipy.special.logsumexp(j, axis=1))


def grad(p, x):
    n = x.shape[0]
    z, j = joint(p, x)
    resp = jax.nn.softmax(j, axis=1)
    dj = -resp / n
    dz = -dj[:, :, None] * z
    sd = jnp.exp(p["logsd"])
    dmu = -jnp.sum(dz / sd, axis=0)
    mass = jnp.sum(dj, axis=0)
    dlogsd = -jnp.sum(dz * z, axis=0) - mass[:, None]
    pi = jax.nn.softmax(p["logit"])
    dlogit = mass - pi * jnp.sum(mass)
    return {"mu": dmu, "logsd": dlogsd, "logit": dlogit}
