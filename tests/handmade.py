"""Reports made by hand, for the tests of what is done with a report; no check is run."""

from __future__ import annotations

import dataclasses

from jaxcheck.records_drawn import Curve, Grid, Line, Made, Numbers, Sample
from jaxcheck.result import Component, Culprit, LeafResult, Point, Reason, Report, Row, Verdict, Witness

NAN = float("nan")


def whole(report: Report) -> str:
    """Everything in a report, in which NaN differs from a number, -0.0 from 0.0, a tuple from a list, a float from a
    complex number."""
    return repr(dataclasses.astuple(report))


def leaf(path: str = "W1", verdict: Verdict = Verdict.PASS, reason: Reason = Reason.AGREE, **changed) -> LeafResult:
    """A leaf as a good check leaves it, but for what is changed."""
    values = dict(
        shape=(4, 5),
        dtype="float32",
        norm_manual=1.25,
        norm_numeric=1.25,
        norm_autodiff=1.25,
        difference=3.2e-11,
        difference_autodiff=1.1e-16,
        error_bar=1e-11,
        floor=3e-9,
        floor_component=2e-6,
        precision=1.1e-7,
        probes=20,
    )
    return LeafResult(path=path, verdict=verdict, reason=reason, **{**values, **changed})


def passing(**changed) -> Report:
    values = dict(
        kind="check_grad",
        name="loss",
        verdict=Verdict.PASS,
        reason=Reason.AGREE,
        difference=3.2e-11,
        difference_autodiff=1.1e-16,
        leaves=(leaf("W1"), leaf("b1", shape=(5,), floor=1e-8)),
        carried=(("step", "int32 array"),),
        witnesses=(Witness("manual", "float64"), Witness("numeric", "float64"), Witness("autodiff", "float64")),
        why_mode="25 parameters are few",
        value=0.693,
        evaluations=102,
        seconds=0.5,
    )
    return Report(**{**values, **changed})


def failing(**changed) -> Report:
    worst = (
        Component("layers[1].W", (0, 1), 0.25, 2.0, 1.0, 1e-11, 1.0),
        Component("layers[1].W", (2, 0), -0.5, -0.5, -0.25, 1e-11, -0.25, note="kink"),
    )
    wrong = leaf(
        "layers[1].W",
        Verdict.FAIL,
        Reason.MANUAL_WRONG,
        shape=(5, 3),
        difference=1 / 3,
        difference_autodiff=1 / 3,
        worst=worst,
        hint="ratio 2.000 +- 1e-9 on all 15 entries",
    )
    values = dict(
        verdict=Verdict.FAIL,
        reason=Reason.MANUAL_WRONG,
        difference=0.2850931567,
        difference_autodiff=0.2850931567,
        leaves=(leaf("layers[0].W"), wrong),
        carried=(),
    )
    return passing(**{**values, **changed})


def inconclusive(**changed) -> Report:
    reason = Reason.NONDETERMINISTIC
    random = leaf("W1", Verdict.INCONCLUSIVE, reason, difference=NAN, difference_autodiff=NAN, floor=NAN)
    values = dict(
        verdict=Verdict.INCONCLUSIVE,
        reason=reason,
        difference=NAN,
        difference_autodiff=NAN,
        leaves=(random,),
        carried=(),
    )
    return passing(**{**values, **changed})


def strange(**changed) -> Report:
    """Everything that is hard to write down: NaN, infinities, minus zero, complex, tuples of tuples, markup."""
    inf = float("inf")
    odd = Component("z<b>[red]", (3,), 1 - 2j, complex(NAN, -inf), complex(-0.0, 1e-300), inf, -0.0, note='"<&>"')
    bad = leaf("z<b>[red]", Verdict.FAIL, Reason.NONFINITE, norm_manual=inf, shape=(), worst=(odd,), hint="[/]")
    values = dict(
        name="<script>alert(1)</script>",
        difference=NAN,
        difference_autodiff=-0.0,
        leaves=(bad,),
        carried=(("a", "None"), ("key[0]", "PRNG key")),
        rows=(Row("laws", "zero", "OK", 5e-324), Row("transformations", "jit", "WRONG", detail="θ[bold]")),
        points=(Point(3, "seed 3", Verdict.FAIL, 0.1 + 0.2, "W", "check_grad(loss, points[3])"),),
        notes=("line one\nline two", "[not markup]"),
        witnesses=(Witness("autodiff", "absent", "while loop"),),
        value=NAN,
        seed=2**40,
    )
    return failing(**{**values, **changed})


def rule() -> Report:
    rows = (
        Row("laws", "linear in the cotangent", "WRONG", 0.3, "at scale -1e3"),
        Row("laws", "zero to zero", "OK", 0.0),
        Row("transformations", "vmap", "UNSUPPORTED", NAN, "no batching rule for pure_callback"),
    )
    return Report(
        "check_rule", "clip", Verdict.FAIL, Reason.LAW_BROKEN, rows=rows, seed=7, evaluations=1, seconds=1.2345
    )


def batch() -> Report:
    verdicts = [Verdict.FAIL] * 7 + [Verdict.INCONCLUSIVE]
    points = tuple(
        Point(i, f"seed {i}", verdict, 0.2, "W2", f"check_grad(loss, points[{i}])")
        for i, verdict in enumerate(verdicts, start=13)
    )
    return failing(
        kind="check_batch",
        leaves=(),
        points=points,
        witnesses=(),
        why_mode="",
        evaluations=10_000,
        seconds=2.0,
        points_passed=92,
        points_failed=7,
        points_inconclusive=1,
        point="seed 13",
        difference=0.2,
        difference_autodiff=0.2,
    )


STEPS = Numbers(0.1 / 4.0**k for k in range(12))


def curve(path="layers[1].W", slope=1.0, manual=2.0, **changed) -> Curve:
    """exp along a line, with the rounding of float64, and a wrong M."""
    values = dict(
        path=path,
        name=f"{path}[0,1]",
        steps=STEPS,
        manual=manual,
        numeric=slope,
        error=1e-11,
        autodiff=slope,
        right=Numbers(slope * (h + h * h / 2 + h**3 / 6) + 1e-16 for h in STEPS),
        left=Numbers(slope * (-h + h * h / 2 - h**3 / 6) - 1e-16 for h in STEPS),
        noise=1e-16,
    )
    return Curve(**{**values, **changed})


def drawn(path="layers[1].W", **changed) -> Report:
    """A failing report with everything that can be drawn of its wrong leaf, and the line."""
    truth = Numbers(0.1 * k - 0.7 for k in range(15))
    file, text = "/home/me/model.py", "dv = p.T @ dc  # 47 <b>"
    values = dict(
        leaves=tuple(dataclasses.replace(x, path=path) if x.path == "layers[1].W" else x for x in failing().leaves),
        curves=(curve(path), curve(path, smooth=1e-3)),
        samples=(Sample(path, Numbers(range(15)), Numbers(2 * x for x in truth), truth, Numbers([1e-11] * 15), truth),),
        grids=(Grid(path, 5, 3, Numbers(abs(x) for x in truth), "A", 0.7, (5, 3)),),
        culprits=(Culprit(file, 47, text, "dv = dc @ p", "`dc @ p` for `p.T @ dc`", "line", (path,)),),
        made=Made(
            "2026-01-02T03:04:05Z",
            (("jaxcheck", "0.1.0"), ("jax", "0.10.2")),
            "cpu",
            file,
            40,
            tuple(Line(file, n, f"    dv = p.T @ dc  # {n} <b>") for n in range(43, 52)),
        ),
    )
    return failing(**{**values, **changed})


EXTREMES = (0.0, -0.0, NAN, float("inf"), -float("inf"), 5e-324, -1e-300, 1e-17, 1.0, 1e300, -1.7e308)


def extreme(k: int) -> Report:
    """`drawn` with numbers that no picture is made for."""

    def some(count: int, shift: int) -> Numbers:
        return Numbers(EXTREMES[(k * 7 + i * (shift + k) + shift) % len(EXTREMES)] for i in range(count))

    m, n, a = some(3, k)
    steps = Numbers(10.0 ** min(1 + 12 * k, 290) * h for h in STEPS)
    odd = curve(
        steps=steps, right=some(12, 1), left=some(12, 3), manual=m, numeric=n, autodiff=a, error=abs(a), noise=abs(n)
    )
    sample = Sample("layers[1].W", Numbers(range(9)), some(9, 2), some(9, 5), some(9, 1), some(9, 4))
    grid = Grid("layers[1].W", 3, 3, Numbers(abs(x) for x in some(9, 1)), "A", abs(m), (3, 3))
    return drawn(curves=(odd,), samples=(sample,), grids=(grid,))
