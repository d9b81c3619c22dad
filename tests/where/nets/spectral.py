"""A filter in frequencies over windows of a signal, weighted."""

import jax.numpy as jnp


def point(r):
    return {"h": r(8), "gain": r(3), "bias": r(8)}, (r(3, 8), r(3, 8), jnp.exp(r(3)))


def loss(p, x, y, w):
    out = jnp.fft.ifft(jnp.fft.fft(x) * jnp.fft.fft(p["h"])).real
    out = p["gain"][:, None] * out + p["bias"]
    return jnp.sum((w / w.sum())[:, None] * (out - y) ** 2)


def grad(p, x, y, w):
    X, H = jnp.fft.fft(x), jnp.fft.fft(p["h"])
    mixed = jnp.fft.ifft(X * H).real
    out = p["gain"][:, None] * mixed + p["bias"]
    dout = 2 * (w[:, None] / w.sum()) * (out - y)
    dmixed = dout * p["gain"][:, None]
    dY = jnp.fft.fft(dmixed)
    dh = jnp.fft.ifft(dY * jnp.conj(X)).real.sum(axis=0)
    dgain = jnp.sum(dout * mixed, axis=1)
    dbias = jnp.sum(dout, axis=0)
    return {"h": dh, "gain": dgain, "bias": dbias}
