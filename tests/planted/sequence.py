"""Time: recurrent nets, likelihoods over paths, integrators. Backprop runs backwards."""

import jax
import jax.numpy as jnp

from tests.planted.base import Problem, draws, ints, right, sigmoid, wrong


def rnn(dtype, bug=None):
    """A tanh RNN as a scan, loss at every step, backprop through time by hand."""
    r = draws(41, dtype)
    p = {"U": r(3, 4, scale=0.6), "W": r(4, 4, scale=0.6), "h0": r(4)}
    X, T = r(6, 3), r(6, 4)

    def states(p, X):
        def step(h, x):
            h = jnp.tanh(x @ p["U"] + h @ p["W"])
            return h, h

        return jax.lax.scan(step, p["h0"], X)[1]

    def loss(p, X):
        return 0.5 * jnp.sum((states(p, X) - T) ** 2)

    def grad(p, X):
        H = states(p, X)
        before = jnp.concatenate([p["h0"][None], H[:-1]])
        g = {k: jnp.zeros_like(v) for k, v in p.items()}
        dh = jnp.zeros_like(p["h0"])
        for t in reversed(range(len(X))):
            dh = dh + H[t] - T[t]
            if bug == "no-inner" and t != 5:  # only the last step's loss
                dh = dh - (H[t] - T[t])
            dz = dh * (1 - H[t] ** 2)
            g["U"] += jnp.outer(X[t], dz)
            here = jnp.outer(H[t] if bug == "after" else before[t], dz)
            g["W"] = here if bug == "overwritten" else g["W"] + here
            dh = dz @ (p["W"] if bug == "no-transpose" else p["W"].T)
            if (bug == "truncated" and t == 3) or bug == "one-step":
                dh = dh * 0
        g["h0"] = jnp.zeros_like(dh) if bug == "h0" else dh
        return g

    return Problem(loss, p, grad, (X,))


def lstm(dtype, bug=None):
    """An LSTM with fused gates i, f, g, o; the loss reads the last output and the last cell."""
    r = draws(42, dtype)
    p = {"W": r(5, 12, scale=0.6), "b": r(12, scale=0.5)}
    X, T = r(5, 2), r(3)

    def step(p, h, c, x):
        z = jnp.concatenate([x, h]) @ p["W"] + p["b"]
        i, f, o = sigmoid(z[:3]), sigmoid(z[3:6]), sigmoid(z[9:])
        g = jnp.tanh(z[6:9])
        new = f * c + i * g
        return o * jnp.tanh(new), new, (x, h, c, i, f, g, o, new)

    def loss(p):
        h = c = jnp.zeros(3, X.dtype)
        for x in X:
            h, c, _ = step(p, h, c, x)
        return jnp.sum((h - T) ** 2 + 0.1 * c**2)

    def grad(p):
        h = c = jnp.zeros(3, X.dtype)
        tape = []
        for x in X:
            h, c, saved = step(p, h, c, x)
            tape.append(saved)
        dh, dc = 2 * (h - T), 0.2 * c
        dW, db = jnp.zeros_like(p["W"]), jnp.zeros_like(p["b"])
        for x, h, old, i, f, g, o, new in reversed(tape):
            t = jnp.tanh(new)
            do = dh * t * (o if bug == "o-slope" else o * (1 - o))
            dc = dc * (bug != "cell-path") + dh * o * (1 if bug == "tanh-c" else 1 - t**2)
            di = dc * g * i * (1 - i)
            df = dc * (new if bug == "new-cell" else old) * f * (1 - f)
            dg = dc * i * (1 - g if bug == "g-slope" else 1 - g**2)
            order = [df, di, dg, do] if bug == "gate-order" else [di, df, dg, do]
            dz = jnp.concatenate(order)
            dW, db = dW + jnp.outer(jnp.concatenate([x, h]), dz), db + dz
            dh = (p["W"] @ dz)[2:]
            dc = dc * (i if bug == "forget" else f)
        return {"W": dW, "b": db}

    return Problem(loss, p, grad)


def gru(dtype, bug=None):
    """A GRU; the reset gate multiplies the state before its product."""
    r = draws(43, dtype)
    p = {"z": r(5, 3), "r": r(5, 3), "n": r(5, 3)}
    X, T = r(4, 2), r(3)

    def step(p, h, x):
        xh = jnp.concatenate([x, h])
        z, q = sigmoid(xh @ p["z"]), sigmoid(xh @ p["r"])
        n = jnp.tanh(jnp.concatenate([x, q * h]) @ p["n"])
        return (1 - z) * n + z * h, (x, h, z, q, n)

    def loss(p):
        h = jnp.ones(3, X.dtype)
        for x in X:
            h, _ = step(p, h, x)
        return 0.5 * jnp.sum((h - T) ** 2)

    def grad(p):
        h, tape = jnp.ones(3, X.dtype), []
        for x in X:
            h, saved = step(p, h, x)
            tape.append(saved)
        g, dh = {k: jnp.zeros_like(v) for k, v in p.items()}, h - T
        for x, h, z, q, n in reversed(tape):
            xh = jnp.concatenate([x, h])
            dn = dh * (1 - z) * (1 - n**2)
            dqh = (p["n"] @ dn)[2:]
            dz = dh * ((n - h) if bug == "update-sign" else (h - n)) * z * (1 - z)
            dq = dqh * h * q * (1 - q)
            g["n"] += jnp.outer(xh if bug == "no-reset" else jnp.concatenate([x, q * h]), dn)
            g["z"] += jnp.outer(xh, dz)
            g["r"] += jnp.outer(xh, dq)
            dh = dh * z + dqh * q + (p["z"] @ dz + p["r"] @ dq)[2:]
        return g

    return Problem(loss, p, grad)


def crf(dtype, bug=None):
    """A linear-chain CRF: the forward algorithm's log-partition less the score of the labels."""
    r = draws(44, dtype)
    p, labels = {"emit": r(6, 3), "move": r(3, 3), "start": r(3)}, ints(44, 3, 6)

    def lse(x, axis):
        m = x.max(axis, keepdims=True)
        return (m + jnp.log(jnp.exp(x - m).sum(axis, keepdims=True))).squeeze(axis)

    def forward(p):
        alphas = [p["start"] + p["emit"][0]]
        for t in range(1, 6):
            alphas.append(lse(alphas[-1][:, None] + p["move"], 0) + p["emit"][t])
        return jnp.stack(alphas)

    def loss(p):
        score = p["start"][labels[0]] + p["emit"][jnp.arange(6), labels].sum()
        return lse(forward(p)[-1], 0) - score - p["move"][labels[:-1], labels[1:]].sum()

    def grad(p):
        A = forward(p)
        betas = [jnp.zeros(3, A.dtype)]
        for t in range(5, 0, -1):
            betas.insert(0, lse(p["move"] + (p["emit"][t] + betas[0])[None], 1))
        B = jnp.stack(betas)
        Z = lse(A[-1], 0)
        state = jnp.exp(A + B - Z)
        if bug == "no-backward":  # filtering where smoothing is meant
            state = jnp.exp(A - lse(A, 1)[:, None])
        inner = (p["emit"] + B)[1:, None, :]
        pair = jnp.exp(A[:-1, :, None] + p["move"] + inner - Z)
        emit = state - (labels[:, None] == jnp.arange(3))
        gold = jnp.zeros_like(p["move"])
        if bug == "set":
            gold = gold.at[labels[:-1], labels[1:]].set(1)
        else:
            gold = gold.at[labels[:-1], labels[1:]].add(1)
        move = (pair[1:] if bug == "first-pair" else pair).sum(0) - gold
        return {"emit": emit, "move": move.T if bug == "transposed" else move, "start": emit[0]}

    return Problem(loss, p, grad)


def pendulum(dtype, bug=None):
    """Runge-Kutta steps of a damped pendulum and the discrete adjoint of Euler's, as one pytree."""
    r = draws(45, dtype)
    h, steps = 0.1, 12
    p = {"state": r(2), "rate": jnp.asarray([1.3, 0.2], dtype)}
    target = r(2)

    def field(y, k):
        return jnp.stack([y[1], -k[0] * jnp.sin(y[0]) - k[1] * y[1]])

    def loss(p):
        y, cost = p["state"], 0.0
        for _ in range(steps):
            y = y + h * field(y, p["rate"])
            cost = cost + h * y[0] ** 2
        return cost + jnp.sum((y - target) ** 2)

    def grad(p):
        k, ys = p["rate"], [p["state"]]
        for _ in range(steps):
            ys.append(ys[-1] + h * field(ys[-1], k))
        adj, dk = 2 * (ys[-1] - target), jnp.zeros_like(k)
        for n in reversed(range(steps)):
            adj = adj.at[0].add(0 if bug == "running" else 2 * h * ys[n + 1][0])
            y = ys[n + 1] if bug == "late" else ys[n]
            dk = dk + h * jnp.stack([-jnp.sin(y[0]) * adj[1], -y[1] * adj[1]])
            if bug == "last" and n == 0:
                break
            back = jnp.stack([-k[0] * jnp.cos(y[0]) * adj[1], adj[0] - k[1] * adj[1]])
            adj = adj + (1 if bug == "no-h" else h) * back
        return {"state": adj, "rate": dk}

    return Problem(loss, p, grad)


CASES = (
    right("rnn", rnn, "backprop through time of a scan"),
    wrong("rnn-truncated", rnn, "truncated", "BPTT cut at step 3", "U W h0"),
    wrong("rnn-one-step", rnn, "one-step", "BPTT of one step", "U W h0"),
    wrong("rnn-overwritten", rnn, "overwritten", "dW of the first step only", "W"),
    wrong("rnn-state-after", rnn, "after", "h_t for h_(t-1)", "W"),
    wrong("rnn-no-transpose", rnn, "no-transpose", "W for W^T in time", "U W h0"),
    wrong("rnn-last-loss-only", rnn, "no-inner", "losses before the last dropped", "U W h0"),
    wrong("rnn-h0", rnn, "h0", "initial state gets no gradient", "h0"),
    right("lstm", lstm, "an LSTM with fused gates"),
    wrong("lstm-cell-path", lstm, "cell-path", "dc not carried over", "W b"),
    wrong("lstm-o-slope", lstm, "o-slope", "o for o(1-o)", "W b"),
    wrong("lstm-tanh-of-cell", lstm, "tanh-c", "tanh' of the cell missing", "W b"),
    wrong("lstm-new-cell", lstm, "new-cell", "c_t for c_(t-1) in the forget gate", "W b"),
    wrong("lstm-g-slope", lstm, "g-slope", "1 - g for 1 - g^2", "W b"),
    wrong("lstm-gate-order", lstm, "gate-order", "input and forget gates exchanged", "W b"),
    wrong("lstm-forget", lstm, "forget", "i for f along the cell", "W b"),
    right("gru", gru, "a GRU"),
    wrong("gru-update-sign", gru, "update-sign", "sign of the update gate", "z r n"),
    wrong("gru-no-reset", gru, "no-reset", "h for r*h in dWn", "n"),
    right("crf", crf, "a linear-chain CRF"),
    wrong("crf-no-backward", crf, "no-backward", "filtered, not smoothed, marginals", "emit start"),
    wrong("crf-gold-set", crf, "set", "repeated transitions counted once", "move"),
    wrong("crf-first-pair", crf, "first-pair", "first transition left out", "move"),
    wrong("crf-transposed", crf, "transposed", "transitions transposed", "move"),
    right("pendulum", pendulum, "the discrete adjoint of an integrator"),
    wrong("pendulum-late", pendulum, "late", "adjoint linearised one step late", "state rate"),
    wrong("pendulum-last-step", pendulum, "last", "the last adjoint step left out", "state"),
    wrong("pendulum-running-cost", pendulum, "running", "running cost forgotten", "state rate"),
    wrong("pendulum-no-h", pendulum, "no-h", "step size missing in the adjoint", "state rate"),
)
