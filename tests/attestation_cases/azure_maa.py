"""Good Azure Attestation evidence: public and documented claims under a key of our own, a token a kind of hardware."""

from collections.abc import Iterator

from attestation_cases.good_case import GoodCase
from synthetic_tokens import NOW, REPORT_DATA, azure_vm, maa_token, sev_snp_vm, sgx, tdx_vm

from attestation.families import FAMILIES
from attestation.tee import Tee

CLAIMS = {"azurevm": azure_vm, "sevsnpvm": sev_snp_vm, "tdxvm": tdx_vm, "sgx": sgx}


def good_cases() -> Iterator[GoodCase]:
    """By attestation type."""
    for name, claims in CLAIMS.items():
        evidence = maa_token(claims())
        yield GoodCase(
            name=name,
            evidence=evidence,
            values=FAMILIES[Tee.AZURE_MAA].reference(evidence),
            report_data=REPORT_DATA,
            now=NOW,
            signed=(range(len(evidence.report)),),
        )
