"""Every bit of every accepted evidence that a signature covers: flipped one by one, none may pass.

How many there are (hundreds of thousands) is for `make fuzz`; a test takes a sample.
"""

import importlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from attestation_cases.good_case import GoodCase

from attestation.appraisal import judge
from attestation.errors import AttestationError

_THIS = Path(__file__)
FAMILIES = sorted(path.stem for path in _THIS.parent.glob("*.py") if path != _THIS and path.stem != "good_case")


def all_good_cases() -> Iterator[GoodCase]:
    """Those of all families."""
    for family in FAMILIES:
        yield from importlib.import_module(f"attestation_cases.{family}").good_cases()


def bits_of(case: GoodCase) -> int:
    """How many bits of a case are signed."""
    return 8 * sum(len(place) for place in case.signed)


def accepts(case: GoodCase) -> bool:
    """Whether the case is accepted as it stands."""
    return judge(case.evidence, [case.values], case.report_data, case.now) is not None


def survives(case: GoodCase, bit: int) -> bool:
    """Whether the evidence is accepted though this signed bit is flipped. Raises what no verifier may raise."""
    ends = list(accumulate(len(place) for place in case.signed))
    which = next(index for index, end in enumerate(ends) if bit // 8 < end)
    place = case.signed[which][bit // 8 - (ends[which] - len(case.signed[which]))]
    report = bytearray(case.evidence.report)
    report[place] ^= 1 << bit % 8
    try:
        judge(replace(case.evidence, report=bytes(report)), [case.values], case.report_data, case.now)
    except AttestationError:
        return False
    return True
