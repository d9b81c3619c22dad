"""A Pallas kernel whose rule is made of kernels: forward and backward softmax, row by row.

In interpret mode a kernel is a program that jaxcheck can open: it is run in float64, differentiated as a third witness
and put through the laws of a rule. The wrong backward kernel forgets the mean that softmax takes away, the classic
mistake; the last block of rows is cut short, where kernels like to go wrong.

Run it: python examples/pallas_kernel.py
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

import jaxcheck as jc

ROWS = 4


def softmax_kernel(x_ref, o_ref):
    e = jnp.exp(x_ref[...] - x_ref[...].max(axis=1, keepdims=True))
    o_ref[...] = e / e.sum(axis=1, keepdims=True)


def back_kernel(p_ref, g_ref, o_ref, *, mean):
    p, g = p_ref[...], g_ref[...]
    o_ref[...] = p * (g - mean * (p * g).sum(axis=1, keepdims=True))


def call(kernel, *args):
    block = pl.BlockSpec((ROWS, args[0].shape[1]), lambda i: (i, 0))
    specs = {"grid": (pl.cdiv(len(args[0]), ROWS),), "in_specs": [block] * len(args), "out_specs": block}
    shape = jax.ShapeDtypeStruct(args[0].shape, args[0].dtype)
    return pl.pallas_call(kernel, out_shape=shape, interpret=True, **specs)(*args)


def softmax(mean=1.0):
    f = jax.custom_vjp(lambda x: call(softmax_kernel, x))
    f.defvjp(lambda x: (f(x), f(x)), lambda p, g: (call(functools.partial(back_kernel, mean=mean), p, g),))
    return f


def main() -> list[jc.Report]:
    """The reports of the right kernels and of those with the wrong backward one."""
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    reports = [jc.check_rule(softmax(mean), x, level="quick", name=f"softmax, mean {mean}") for mean in (1.0, 0.0)]
    print(*reports, sep="\n\n")
    return reports


if __name__ == "__main__":
    right, wrong = main()
    raise SystemExit(0 if right.ok and not wrong.ok else 1)
