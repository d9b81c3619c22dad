"""A variational autoencoder with fixed noise: reconstruction and KL divergence. Held back."""

import jax.numpy as jnp


def point(r):
    p = {"enc": r(5, 6), "mu": r(6, 3), "ls": 0.5 * r(6, 3), "dec": r(3, 6), "out": r(6, 5)}
    return p, (r(7, 5), r(7, 3))


def loss(p, x, eps):
    h = jnp.tanh(x @ p["enc"])
    mu, ls = h @ p["mu"], h @ p["ls"]
    z = mu + jnp.exp(ls) * eps
    xr = jnp.tanh(z @ p["dec"]) @ p["out"]
    rec = 0.5 * jnp.sum((xr - x) ** 2, axis=1)
    kl = 0.5 * jnp.sum(jnp.exp(2 * ls) + mu**2 - 1 - 2 * ls, axis=1)
    return jnp.mean(rec + kl)


def grad(p, x, eps):
    n = x.shape[0]
    h = jnp.tanh(x @ p["enc"])
    mu, ls = h @ p["mu"], h @ p["ls"]
    sigma = jnp.exp(ls)
    z = mu + sigma * eps
    t = jnp.tanh(z @ p["dec"])
    xr = t @ p["out"]
    dxr = (xr - x) / n
    dout = t.T @ dxr
    dt = dxr @ p["out"].T
    da = dt * (1 - t**2)
    ddec = z.T @ da
    dz = da @ p["dec"].T
    dmu = dz + mu / n
    dls = dz * eps * sigma + (sigma**2 - 1) / n
    gmu = h.T @ dmu
    gls = h.T @ dls
    dh = dmu @ p["mu"].T + dls @ p["ls"].T
    genc = x.T @ (dh * (1 - h**2))
    return {"enc": genc, "mu": gmu, "ls": gls, "dec": ddec, "out": dout}
