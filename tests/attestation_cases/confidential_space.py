"""Good Confidential Space evidence: the one public token that an appraisal accepts, and ours under a published key."""

from collections.abc import Iterator
from datetime import datetime

from attestation_cases.good_case import GoodCase
from synthetic_tokens import DATA, NOW, REPORT_DATA, TDX, google_claims, oidc_token

from attestation.evidence import Evidence
from attestation.families import FAMILIES
from attestation.tee import Tee

NONCE = "75a91c8dbe289f190d5e70ab1cb70c93cc14d7243f0ef3ff5326a622ead220a6"


def good_cases() -> Iterator[GoodCase]:
    """A PKI token of Google's; OIDC tokens of our own, about SEV and TDX."""
    family = FAMILIES[Tee.CONFIDENTIAL_SPACE]
    report = (DATA / "project-oak-oak" / "gcp_cs_tdx_2025-09-05.jwt").read_bytes()
    real = Evidence(tee=Tee.CONFIDENTIAL_SPACE, report=report, endorsements=())
    for name, evidence, report_data, now in (
        ("gcp_cs_tdx", real, NONCE.encode(), datetime.fromisoformat("2025-09-05T08:17:30Z")),
        ("oidc sev", oidc_token(), REPORT_DATA, NOW),
        ("oidc tdx", oidc_token(google_claims(**TDX)), REPORT_DATA, NOW),
    ):
        yield GoodCase(
            name=name,
            evidence=evidence,
            values=family.reference(evidence),
            report_data=report_data,
            now=now,
            signed=(range(len(evidence.report)),),
        )
