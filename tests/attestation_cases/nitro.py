"""Good Nitro evidence: every public document that an appraisal accepts."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from attestation_cases.good_case import GoodCase

from attestation.families import FAMILIES
from attestation.nitro.cose import CoseSign1
from attestation.nitro.document import AttestationDocument
from attestation.recognise import recognise
from attestation.tee import Tee

DATA = Path(__file__).parents[1] / "vectors" / "data" / "nitro"


def good_cases() -> Iterator[GoodCase]:
    """Each document once, in whatever it was published."""
    seen = set()
    for case in json.loads((DATA / "cases.json").read_text()):
        if case["verdict"] != "valid":
            continue
        evidence = recognise((DATA / case["evidence"]).read_bytes())
        if evidence.report in seen:
            continue
        seen.add(evidence.report)
        document = AttestationDocument.parse(CoseSign1.parse(evidence.report).payload)
        report_data = document.user_data if document.user_data and any(document.user_data) else None
        yield GoodCase(
            name=case["name"],
            evidence=evidence,
            values=FAMILIES[Tee.NITRO].reference(evidence),
            report_data=report_data,
            now=datetime.fromisoformat(case["time"]),
            signed=signed_ranges(evidence.report),
        )


def signed_ranges(report: bytes) -> tuple[range, ...]:
    """The protected header and the payload, both without their CBOR heads, and the signature over them."""
    envelope = CoseSign1.parse(report)
    start = report.index(envelope.payload)
    return range(2, 6), range(start, start + len(envelope.payload)), range(len(report) - 96, len(report))
