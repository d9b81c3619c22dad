"""The table of verdicts: every row has its say, and no two can change places unseen. No JAX, no check."""

import dataclasses
import itertools

import pytest

from jaxcheck.judgement.facts import Facts
from jaxcheck.judgement.table import TABLE, first

# Facts that are other than by default (all witnesses there, finite and agreeing), and the verdict. Named by hand where
# they stand for a row; those after the first 37 hold the order of two rows.
EXAMPLES = (
    ("finite contrast", "FAIL NONFINITE"),
    ("finite", "INCONCLUSIVE NONFINITE"),
    ("surrogate", "PASS SURROGATE"),
    ("empty", "PASS AGREE"),
    ("usable jumps", "INCONCLUSIVE JUMP"),
    ("usable", "INCONCLUSIVE NOISE"),
    ("usable seen", "INCONCLUSIVE DOMAIN"),
    ("granted", "PASS AGREE"),
    ("autodiff m_off noise noisy small", "PASS NOISE"),
    ("autodiff m_off noise noisy", "INCONCLUSIVE NOISE"),
    ("autodiff m_off quantised", "PASS NOISE"),
    ("autodiff own m_off", "FAIL NUMERIC_SUSPECT"),
    ("autodiff m_off", "FAIL MANUAL_WRONG"),
    ("autodiff filled", "INCONCLUSIVE NUMERIC_SUSPECT"),
    ("jumps autodiff", "INCONCLUSIVE JUMP"),
    ("autodiff broken", "PASS AUTODIFF_DIFFERS"),
    ("autodiff", "PASS AGREE"),
    ("m_off quantised", "PASS NOISE"),
    ("m_off kinks_alone", "PASS KINK"),
    ("own m_off", "FAIL NUMERIC_SUSPECT"),
    ("m_off gross", "FAIL MANUAL_WRONG"),
    ("m_off a_off gross", "FAIL NUMERIC_SUSPECT"),
    ("filled", "INCONCLUSIVE NUMERIC_SUSPECT"),
    ("m_off", "PASS AGREE"),
    ("jumps", "INCONCLUSIVE JUMP"),
    ("", "PASS AGREE"),
    ("m_off noise noisy apart small", "PASS NOISE"),
    ("m_off noise noisy apart", "INCONCLUSIVE NOISE"),
    ("m_off a_off apart conditioned", "INCONCLUSIVE PRECISION"),
    ("apart conditioned", "PASS AGREE"),
    ("m_off a_off apart", "FAIL MANUAL_WRONG"),
    ("m_off apart", "FAIL MANUAL_WRONG"),
    ("a_off apart", "PASS AUTODIFF_DIFFERS"),
    ("noisy apart small", "PASS NOISE"),
    ("noisy apart", "INCONCLUSIVE NOISE"),
    ("jumps apart", "INCONCLUSIVE JUMP"),
    ("apart", "FAIL MANUAL_WRONG"),
    ("finite surrogate", "INCONCLUSIVE NONFINITE"),
    ("surrogate empty", "PASS SURROGATE"),
    ("empty usable jumps", "PASS AGREE"),
    ("jumps granted", "PASS AGREE"),
    ("usable seen granted", "INCONCLUSIVE DOMAIN"),
    ("granted autodiff m_off quantised", "PASS AGREE"),
    ("m_off noise noisy small", "PASS AGREE"),
    ("autodiff m_off noise noisy quantised", "INCONCLUSIVE NOISE"),
    ("autodiff own m_off quantised", "PASS NOISE"),
    ("autodiff m_off quantised apart", "PASS NOISE"),
    ("jumps autodiff m_off", "FAIL MANUAL_WRONG"),
    ("jumps autodiff broken", "INCONCLUSIVE JUMP"),
    ("jumps m_off", "PASS AGREE"),
    ("m_off quantised kinks_alone", "PASS NOISE"),
    ("m_off quantised gross", "PASS NOISE"),
    ("own m_off quantised", "PASS NOISE"),
    ("own m_off kinks_alone", "PASS KINK"),
    ("own m_off gross", "FAIL NUMERIC_SUSPECT"),
    ("own jumps m_off", "FAIL NUMERIC_SUSPECT"),
    ("autodiff apart conditioned", "PASS AGREE"),
    ("jumps m_off apart", "FAIL MANUAL_WRONG"),
    ("a_off", "PASS AGREE"),
    ("m_off noisy apart small", "FAIL MANUAL_WRONG"),
    ("a_off noisy apart small", "PASS AUTODIFF_DIFFERS"),
    ("jumps noisy apart", "INCONCLUSIVE NOISE"),
    ("autodiff m_off filled", "FAIL MANUAL_WRONG"),
    ("jumps autodiff filled", "INCONCLUSIVE NUMERIC_SUSPECT"),
    ("autodiff broken filled", "INCONCLUSIVE NUMERIC_SUSPECT"),
    ("m_off quantised filled", "PASS NOISE"),
    ("m_off a_off gross filled", "FAIL NUMERIC_SUSPECT"),
    ("m_off filled", "INCONCLUSIVE NUMERIC_SUSPECT"),
    ("jumps filled", "INCONCLUSIVE NUMERIC_SUSPECT"),
    ("filled apart", "FAIL MANUAL_WRONG"),
)


def facts(other: str) -> Facts:
    known = Facts()
    return dataclasses.replace(known, **{name: not getattr(known, name) for name in other.split()})


def say(known: Facts, rows=TABLE) -> tuple:
    row = first(known, rows)
    return row.verdict.value, row.name(known).value, row.note, row.doubtful


@pytest.mark.parametrize(("other", "verdict"), EXAMPLES)
def test_the_verdict(other, verdict):
    assert " ".join(say(facts(other))[:2]) == verdict


def test_every_row_has_its_say():
    assert {first(facts(other)) for other, _ in EXAMPLES} == set(TABLE)


def test_rows_ask_for_facts_that_there_are():
    known = {name for name in dir(Facts) if not name.startswith("_")}
    assert {word for row in TABLE for word in row.facts.split() if word != "not"} <= known
    assert all(row.why for row in TABLE)


@pytest.mark.parametrize("i", range(len(TABLE) - 1))
def test_no_two_rows_change_places_unseen(i):
    """Where another order would give another verdict on any facts, it does so on an example."""
    names = [field.name for field in dataclasses.fields(Facts)]
    some = [facts(" ".join(flips)) for k in range(4) for flips in itertools.combinations(names, k)]
    for j in range(i + 1, len(TABLE)):
        rows = list(TABLE)
        rows[i], rows[j] = rows[j], rows[i]
        if any(say(facts(other), tuple(rows)) != say(facts(other)) for other, _ in EXAMPLES):
            continue
        touched = [known for known in some if rows[i].holds(known) or rows[j].holds(known)]
        assert all(say(known, tuple(rows)) == say(known) for known in touched if possible(known)), (i, j)


def possible(known: Facts) -> bool:
    return (
        not (known.noise and not known.noisy)
        and not (known.conditioned and not known.apart)
        and not (known.broken and known.autodiff)
    )


def test_a_pass_by_agreement_is_named_after_a_kink():
    assert say(facts("kinked"))[:2] == ("PASS", "KINK")
    assert say(facts("kinked autodiff broken"))[:2] == ("PASS", "KINK")
    assert say(facts("kinked m_off"))[:2] == ("PASS", "AGREE")


def test_measured_round_off_outweighs_noise():
    assert say(facts("m_off noise noisy apart"))[:2] == ("INCONCLUSIVE", "NOISE")
    assert say(facts("m_off noise noisy apart measured"))[:2] == ("FAIL", "MANUAL_WRONG")
    assert say(facts("m_off a_off noise noise_a noisy apart measured conditioned"))[:2] == ("PASS", "AGREE")
    assert say(facts("m_off a_off noise noisy apart measured"))[:2] == ("PASS", "AUTODIFF_DIFFERS")
