"""Complex parameters, JAX's convention: grad = dJ/dx - i dJ/dy for z = x + iy."""

import jax.numpy as jnp

from tests.planted.base import COMPLEX, Problem, draws, right, wrong


def least_squares(dtype, bug=None):
    """|Az - b|^2, by the conjugate of the textbook's gradient A^H (Az - b)."""
    r = draws(81, dtype)
    z, A, b = r(4), r(6, 4), r(6)

    def loss(z, A, b):
        return jnp.sum(jnp.abs(A @ z - b) ** 2)

    def grad(z, A, b):
        e = A @ z - b
        if bug == "unconjugated":  # the steepest ascent itself, another convention
            return 2 * A.conj().T @ e
        if bug == "no-conjugate":
            return 2 * A.T @ e
        return (1 if bug == "half" else 2) * A.T @ e.conj()

    return Problem(loss, z, grad, (A, b))


def network(dtype, bug=None):
    """A complex layer, a split activation, a real read-out; complex and real leaves together."""
    r = draws(82, dtype)
    p = {"W": r(3, 4), "c": r(3), "v": r(3).real}
    X = r(4, 5)

    def loss(p):
        Z = p["W"] @ X + p["c"][:, None]
        A = jnp.tanh(Z.real) + 1j * jnp.sin(Z.imag)
        return jnp.mean(p["v"] @ (A.real**2 + A.imag * A.real))

    def grad(p):
        Z = p["W"] @ X + p["c"][:, None]
        a, b = jnp.tanh(Z.real), jnp.sin(Z.imag)
        v = p["v"][:, None] / X.shape[1]
        dx, dy = v * (2 * a + b) * (1 - a**2), v * a * jnp.cos(Z.imag)
        dZ = dx + 1j * dy if bug == "imaginary-sign" else dx - 1j * dy
        if bug == "real-only":
            dZ = dx + 0j
        back = X.conj() if bug == "input-conjugate" else X
        return {"W": dZ @ back.T, "c": dZ.sum(1), "v": (a**2 + a * b).mean(1)}

    return Problem(loss, p, grad)


def spectrum(dtype, bug=None):
    """The power spectrum of a filtered complex signal against a target, by FFT."""
    r = draws(83, dtype)
    p, T = {"signal": r(8), "filter": r(8)}, jnp.abs(r(8))

    def loss(p):
        return jnp.sum((jnp.abs(p["filter"] * jnp.fft.fft(p["signal"])) ** 2 - T) ** 2)

    def grad(p):
        F = jnp.fft.fft(p["signal"])
        Y = p["filter"] * F
        dY = 4 * (jnp.abs(Y) ** 2 - T) * Y.conj()
        dF = dY * p["filter"]
        # The FFT's matrix is symmetric, so its transpose is itself: no inverse, no 1/n.
        signal = {"ifft": jnp.fft.ifft(dF), "adjoint": 8 * jnp.fft.ifft(dF)}.get(bug, jnp.fft.fft(dF))
        return {"signal": signal, "filter": dY.conj() * F if bug == "filter" else dY * F}

    return Problem(loss, p, grad)


def holomorphic(dtype, bug=None):
    """Real part of a holomorphic function: grad is its complex derivative."""
    z = draws(84, dtype)(5, scale=0.7)

    def loss(z):
        return jnp.sum((jnp.exp(z) * z**2).real)

    def grad(z):
        d = jnp.exp(z) * (z**2 + 2 * z)
        return d.conj() if bug == "conjugate" else d

    return Problem(loss, z, grad)


def phase(dtype, bug=None):
    """Modulus and angle, away from zero."""
    z = draws(85, dtype)(4)

    def loss(z):
        return jnp.sum(jnp.abs(z) + jnp.sin(jnp.angle(z)))

    def grad(z):
        a = jnp.abs(z)
        turn = jnp.cos(jnp.angle(z)) / (a if bug == "angle" else a**2)
        return z.conj() / a - turn * (z.imag + 1j * z.real)

    return Problem(loss, z, grad)


def rfft(dtype, bug=None):
    """A real signal's half spectrum: its inner frequencies stand for two."""
    r = draws(86, dtype)
    x, w = r(8), jnp.abs(r(5))

    def loss(x):
        return jnp.sum(w * jnp.abs(jnp.fft.rfft(x)) ** 2)

    def grad(x):
        Y = 2 * w * jnp.fft.rfft(x)
        if bug != "two-sided":
            # irfft counts inner frequencies twice and divides by n.
            Y = Y * jnp.asarray([1, 0.5, 0.5, 0.5, 1], x.dtype)
        return jnp.fft.irfft(Y) * (1 if bug == "no-n" else 8)

    return Problem(loss, x, grad)


CASES = (
    right("complex-least-squares", least_squares, "complex least squares", dtypes=COMPLEX),
    wrong("complex-other-convention", least_squares, "unconjugated", "conjugate of JAX's gradient", "", dtypes=COMPLEX),
    wrong("complex-no-conjugate", least_squares, "no-conjugate", "residual not conjugated", "", dtypes=COMPLEX),
    wrong("complex-half", least_squares, "half", "Wirtinger's half", "", dtypes=COMPLEX),
    right("complex-network", network, "complex and real leaves together", dtypes=COMPLEX),
    wrong("complex-imaginary-sign", network, "imaginary-sign", "sign of the imaginary part", "W c", dtypes=COMPLEX),
    wrong("complex-real-only", network, "real-only", "imaginary part dropped", "W c", dtypes=COMPLEX),
    wrong("complex-input-conjugate", network, "input-conjugate", "input conjugated", "W", dtypes=COMPLEX),
    right("complex-spectrum", spectrum, "power spectrum by FFT", dtypes=COMPLEX),
    wrong("complex-ifft", spectrum, "ifft", "inverse FFT with its 1/n", "signal", dtypes=COMPLEX),
    wrong("complex-fft-adjoint", spectrum, "adjoint", "adjoint for transpose", "signal", dtypes=COMPLEX),
    wrong("complex-filter", spectrum, "filter", "dY conjugated for one leaf", "filter", dtypes=COMPLEX),
    right("complex-holomorphic", holomorphic, "a holomorphic function's real part", dtypes=COMPLEX),
    wrong("complex-holomorphic-conjugate", holomorphic, "conjugate", "conjugated", "", dtypes=COMPLEX),
    right("complex-phase", phase, "modulus and angle", dtypes=COMPLEX),
    wrong("complex-angle", phase, "angle", "1/r for 1/r^2", "", dtypes=COMPLEX),
    right("rfft", rfft, "a real signal's half spectrum"),
    wrong("rfft-two-sided", rfft, "two-sided", "inner frequencies twice", ""),
    wrong("rfft-no-n", rfft, "no-n", "n missing with irfft", ""),
)
