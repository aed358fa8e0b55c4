"""Our verification and the library's, side by side on real evidence with bits flipped.

In use both must accept. Here each is asked alone, so that a hole in one shows even where the other covers it.
"""

import random
from dataclasses import replace
from datetime import datetime

import dcap_qvl
import pytest
from attestation_cases.dcap import good_cases
from attestation_cases.good_case import GoodCase

from attestation import AttestationError, Evidence
from attestation.dcap import authenticate as floor
from attestation.dcap.library import LEFT_TO_THE_APPRAISAL
from attestation.families import FAMILIES

BUNDLED = [case for case in good_cases() if len(case.evidence.endorsements) == 1]
SAMPLES = 120


def ours(evidence: Evidence, now: datetime) -> str | None:
    """The status that our own verification finds, or None."""
    try:
        return FAMILIES[evidence.tee].authenticate(evidence, now).quote.standing.status  # type: ignore[attr-defined]
    except AttestationError:
        return None


def theirs(evidence: Evidence, now: datetime) -> str | None:
    """The status that the library finds, or None."""
    try:
        collateral = dcap_qvl.QuoteCollateralV3.from_json(evidence.endorsements[0].decode())
        return dcap_qvl.verify(evidence.report, collateral, int(now.timestamp())).status
    except ValueError as error:
        objection = str(error).removeprefix("Verification failed: ")
        return "left to the appraisal" if objection in LEFT_TO_THE_APPRAISAL else None


@pytest.fixture(autouse=True)
def _without_a_second_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "_check_opinion", lambda *_: None)


@pytest.mark.parametrize("case", BUNDLED, ids=lambda case: case.name)
def test_both_find_the_same_on_real_evidence(case: GoodCase) -> None:
    assert theirs(case.evidence, case.now) in (ours(case.evidence, case.now), "left to the appraisal")


@pytest.mark.parametrize("name", ["tdx_quote with", "quote_v5_sample.dat with tdx", "sgx_quote with", "quotev5.dat"])
def test_with_a_bit_flipped_neither_accepts_what_the_other_refuses(name: str) -> None:
    case = next(case for case in BUNDLED if case.name.startswith(name))
    rng, report, (bundle,) = random.Random(name), case.evidence.report, case.evidence.endorsements
    stricter = []
    for _ in range(SAMPLES):
        place = rng.randrange(len(report) + len(bundle))
        if place < len(report):
            changed = replace(case.evidence, report=_flipped(report, place, rng))
        else:
            changed = replace(case.evidence, endorsements=(_flipped(bundle, place - len(report), rng),))
        own, library = ours(changed, case.now), theirs(changed, case.now)
        if own is not None:
            assert library in (own, "left to the appraisal"), (place, own, library)
        elif library is not None:
            stricter.append(place)
    # Padding, and the root that came along, which the library doesn't look at.
    unread = [place for place in stricter if place < len(report) and not _is_padding(report, place)]
    assert all(_in_root(report, place) for place in unread)


def _flipped(data: bytes, place: int, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _is_padding(report: bytes, place: int) -> bool:
    return not any(report[place:])


def _in_root(report: bytes, place: int) -> bool:
    """Whether a byte lies in the third certificate of a quote, or behind it."""
    return place > report.index(b"-----BEGIN", report.index(b"-----BEGIN", report.index(b"-----BEGIN") + 1) + 1)
