"""Why the differences are centred: J = theta^3 at theta = 1 with eps = 0.01.

The derivative is exactly 3. The two-sided difference

    (J(theta + eps) - J(theta - eps)) / (2 eps)  =  3 theta^2 + eps^2     = 3.0001

is off by 1e-4; the one-sided

    (J(theta + eps) - J(theta)) / eps            =  3 theta^2 + 3 theta eps + eps^2  = 3.0301

by 3e-2. Halving eps divides the first error by four and the second by two only. A gradient checker
that looks one way cannot tell a right gradient from one that is off by a percent.

`Exhaustive(step=..., scheme=...)` is that procedure exactly as the textbook writes it, so its number can
be compared with the textbook's. The verdict does not rest on it: beside the step that was asked for,
jaxcheck takes its own differences, at several steps and with error bars. Without an option they are all
there is to it: the derivative 3 then comes with an error bar near 1e-12.

Run it: python examples/cube.py
"""

from __future__ import annotations

import jaxcheck as jc

THETA, EPS = 1.0, 0.01


def J(theta):
    return theta**3


def backprop(theta):
    return 3 * theta**2


def main() -> list[jc.Report]:
    """The reports of the centred step, the forward step, and jaxcheck's own choice of steps."""
    centred = jc.check_grad(J, THETA, grad=backprop, mode=jc.Exhaustive(step=EPS), name="cube, centred, eps 0.01")
    forward = jc.check_grad(
        J, THETA, grad=backprop, mode=jc.Exhaustive(step=EPS, scheme="forward"), name="cube, forward, eps 0.01"
    )
    own = jc.check_grad(J, THETA, grad=backprop, name="cube, jaxcheck's own steps")
    for report in (centred, forward, own):
        # One component, so the norm of the differences is the difference itself.
        slope = report.leaves[0].norm_numeric
        print(f"{report.name}: derivative {slope:.10g}, error {abs(slope - 3):.1e}, difference {report.difference:.1e}")
    print()
    print(own)
    return [centred, forward, own]


if __name__ == "__main__":
    raise SystemExit(0 if all(report.ok for report in main()) else 1)
