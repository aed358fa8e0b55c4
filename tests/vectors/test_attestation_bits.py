"""No accepted evidence, of any kind, stays accepted when a signed bit of it changes. `make fuzz` takes them all."""

import random

import pytest
from attestation_cases.bits import FAMILIES, accepts, all_good_cases, bits_of, survives
from attestation_cases.good_case import GoodCase

from attestation.families import FAMILIES as KINDS

CASES = list(all_good_cases())
SAMPLE = 12


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.evidence.tee} {case.name}")
def test_a_flipped_bit_is_refused(case: GoodCase) -> None:
    assert accepts(case)
    rng = random.Random(case.name)
    for bit in rng.sample(range(bits_of(case)), SAMPLE):
        assert not survives(case, bit), f"bit {bit}"


def test_every_kind_of_evidence_has_a_case() -> None:
    assert {case.evidence.tee for case in CASES} == set(KINDS), FAMILIES
