"""What a good agreement means: digest, owners, quorum, cohorts, names, and the blocks that people paste into it."""

import hashlib
import runpy
from fractions import Fraction
from pathlib import Path

import pytest

from attestation.tee import Tee
from protocol.agreement import Agreement, Strategy, effective_cohort, mismatch
from protocol.agreement_render import render_model, render_silo
from protocol.agreement_terms import ModelTerms
from protocol.errors import RefusalCode, RefusedError

EXAMPLES = runpy.run_path(str(Path(__file__).parents[1] / "agreement_examples.py"))
good_agreement = EXAMPLES["good_agreement"]


def parse(text: str) -> Agreement:
    return Agreement.parse(text.encode(), "federation.toml")


def test_every_term_arrives() -> None:
    agreement = parse(good_agreement())
    assert (agreement.federation.name, agreement.federation.rounds) == ("digits", 40)
    assert agreement.training.strategy is Strategy.SCAFFOLD
    assert (agreement.training.local_steps, agreement.training.learning_rate) == (10, 0.1)
    assert agreement.training.server_learning_rate == 1.0
    assert agreement.training.proximal_mu is None
    assert agreement.model == ModelTerms(layout=b"\x11" * 32, initial=b"\x22" * 32)
    assert agreement.update.maximum_norm == 100.0
    assert [silo.name for silo in agreement.silos] == ["silo-0", "silo-1", "silo-2", "silo-3"]
    assert agreement.appliance[0].tee is Tee.SIMULATED
    assert agreement.appliance[0].measurements == (b"\x5a" * 48,)


def test_digest_is_sha256_of_the_exact_bytes() -> None:
    data = good_agreement().encode()
    other = data.replace(b"# An example.", b"# An example,")
    assert Agreement.parse(data, "f").digest == hashlib.sha256(data).digest()
    assert Agreement.parse(data, "f").source == data
    assert Agreement.parse(other, "f").digest != Agreement.parse(data, "f").digest


def test_mismatch_names_both_digests() -> None:
    refusal = mismatch(b"\x01" * 32, b"\x02" * 32).refusal
    assert refusal.code is RefusalCode.AGREEMENT_MISMATCH
    assert str(refusal) == (
        f"agreement-mismatch: expected agreement sha256:{'01' * 32}, found agreement sha256:{'02' * 32}; "
        "compare the two files byte for byte (strongroom agreement digest FILE)"
    )


def test_simulated_marks_domain_and_ids() -> None:
    simulated, real = parse(good_agreement()), parse(good_agreement(tee="sev-snp"))
    assert simulated.simulated
    assert simulated.spiffe_id("silo-1") == "spiffe://simulated.digits/silo/silo-1"
    assert not real.simulated
    assert real.spiffe_id("silo-1") == "spiffe://digits/silo/silo-1"


@pytest.mark.parametrize("tee", ["simulated", "sev-snp"])
def test_silo_without_a_tee_needs_no_evidence(tee: str) -> None:
    silo = parse(good_agreement(tee=tee, silo_tee="none")).silo("silo-0")
    assert silo.tees == (None,)
    assert silo.reference_values == ()
    assert not silo.needs_evidence
    assert parse(good_agreement(tee=tee)).silo("silo-0").needs_evidence


def test_unknown_silo_is_refused() -> None:
    agreement = parse(good_agreement())
    with pytest.raises(RefusedError, match=r"^unknown-silo: expected one of the agreement's silos, found 'mallory'"):
        agreement.silo("mallory")
    with pytest.raises(RefusedError, match="unknown-silo"):
        agreement.cohort_is_sufficient(["silo-0", "mallory"])


@pytest.mark.parametrize(
    ("owners", "cosigners", "absences"),
    [("ab", 2, 0), ("abc", 3, 0), ("abcd", 3, 1), ("abcdefgh", 5, 3), ("aab", 2, 0)],
)
def test_smallest_quorum_and_the_absences_that_it_tolerates(owners: str, cosigners: int, absences: int) -> None:
    agreement = parse(good_agreement(owners=tuple(owners), cosigners=cosigners))
    assert agreement.tolerated_absences == absences
    assert agreement.owners == tuple(dict.fromkeys(owners))


def test_fedprox_and_integers_for_floats() -> None:
    text = good_agreement().replace('strategy = "scaffold"', 'strategy = "fedprox"\nproximal_mu = 1')
    assert parse(text).training.proximal_mu == 1.0
    assert type(parse(text).training.proximal_mu) is float


@pytest.mark.parametrize(
    ("owners", "weights", "minimum", "cohort", "sufficient"),
    [
        ("abcd", (1, 1, 1, 1), 2, "01", True),
        ("abcd", (1, 1, 1, 1), 2, "0", False),
        ("abcd", (1, 1, 1, 1), 2, "", False),
        ("abcd", (1, 1, 1, 1), 2, "00", False),
        ("abcd", (1, 1, 1, 1), 3, "013", True),
        ("aabb", (1, 1, 1, 1), 2, "01", False),
        ("aabb", (1, 1, 1, 1), 2, "02", True),
        ("abcd", (0.1, 0.1, 0.1, 0.3), 2, "012", True),
        ("abc", (0.1, 0.1, 0.1), 3, "012", True),
        ("abcd", (1, 1, 1, 3), 2, "03", False),
        ("abcd", (1, 1, 1, 2), 2, "03", False),
        ("abcd", (1, 1, 1, 2), 2, "013", True),
    ],
)
def test_cohort(owners: str, weights: tuple[float, ...], minimum: int, cohort: str, sufficient: bool) -> None:
    text = good_agreement(owners=tuple(owners), weights=tuple(map(str, weights)))
    agreement = parse(text.replace("minimum_cohort = 2", f"minimum_cohort = {minimum}"))
    assert agreement.cohort_is_sufficient([f"silo-{i}" for i in cohort]) is sufficient


def test_effective_cohort_is_exact() -> None:
    assert effective_cohort([0.1] * 3) == 3
    assert effective_cohort([3, 1]) == Fraction(16, 10)
    assert effective_cohort([1e30, 1e-30]) >= 1
    assert effective_cohort([]) == 0


def test_rendered_blocks_replace_those_of_a_file() -> None:
    text = good_agreement()
    agreement = parse(text)
    head, _, tail = text.partition("[model]")
    model = ModelTerms(layout=b"\x33" * 32, initial=b"\x44" * 32)
    assert parse(head + render_model(model) + tail[tail.index("\n[training]") :]).model == model

    silo = agreement.silo("silo-3")
    block = render_silo(
        name="silo-4",
        owner="echo",
        jurisdiction="EE",
        identity=parse(text.replace(EXAMPLES["identity"]("silo-3"), EXAMPLES["identity"]("silo-4"))).silos[3].identity,
        weight=0.25,
        tees=silo.tees,
    )
    joined = parse(text.replace("cosigners = 3", "cosigners = 4") + block)
    assert joined.silo("silo-4").weight == 0.25
    assert joined.silo("silo-4").tees == silo.tees


def test_rendered_silo_without_a_tee() -> None:
    agreement = parse(good_agreement())
    block = render_silo(
        name="silo-0",
        owner="a",
        jurisdiction="CH",
        identity=agreement.silos[0].identity,
        weight=2.0,
        tees=(None,),
    )
    assert block == (
        '[[silo]]\nname = "silo-0"\nowner = "a"\njurisdiction = "CH"\n'
        f'identity = "{agreement.silos[0].identity}"\nweight = 2.0\n\n[[silo.tee]]\ntee = "none"\n'
    )
