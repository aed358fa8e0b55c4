"""Real and simulated SEV-SNP evidence that is accepted, for tests, fuzzers and benchmarks that go through it all."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from attestation_cases.good_case import GoodCase, PublishedCase
from synthetic_snp import NOW, REPORT_DATA, revocation_list, simulated_evidence, simulated_values

from attestation import Evidence, SnpReferenceValues, Tee
from attestation.reference_values import ANY_CHIP, Covers, IdBlock, Revocation
from attestation.snp.flags import PlatformFlag, SigningKey
from attestation.snp.product import Product
from attestation.snp.report import SIGNED_BYTES, SignedReport
from attestation.snp.tcb import TcbVersion

DATA = Path(__file__).parents[1] / "vectors" / "data" / "snp"
AWS = "CN=cc-us-east-2.amazonaws.com"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----")


@dataclass(frozen=True, kw_only=True)
class Case(PublishedCase):
    """A public vector: a report."""

    report: bytes

    @property
    def report_data(self) -> bytes:
        return bytes.fromhex(self.facts["report_data"])

    def evidence(self, tee: Tee = Tee.SEV_SNP) -> Evidence:
        return Evidence(tee=tee, report=self.report, endorsements=self.endorsements)


def certificates(path: str | None) -> tuple[bytes, ...]:
    """The certificates of a file of vectors, in DER."""
    if path is None:
        return ()
    data = (DATA / path).read_bytes()
    if not path.endswith(".pem"):
        return (data,)
    return tuple(base64.b64decode(body) for body in _PEM.findall(data))


def load_cases() -> list[Case]:
    """All public vectors."""
    return [
        Case(
            name=case["name"],
            report=(DATA / case["report"]).read_bytes(),
            endorsements=certificates(case["certificates"]),
            facts=case,
        )
        for case in json.loads((DATA / "cases.json").read_text())
    ]


def values_for(case: Case) -> SnpReferenceValues:
    """What an agreement that wants exactly this guest would say."""
    report = SignedReport.parse(case.report).report
    product = Product(case.facts["product"])
    signer = SigningKey(case.facts["signer"].lower())
    block = IdBlock(
        id_key_digest=report.id_key_digest,
        author_key_digest=report.author_key_digest,
        family_id=report.family_id,
        image_id=report.image_id,
        minimum_guest_svn=report.guest_svn,
    ) if any(report.id_key_digest) else None  # fmt: skip
    return SnpReferenceValues(
        tee=Tee.SEV_SNP,
        products=(product,),
        measurements=(bytes.fromhex(case.facts["measurement"]),),
        covers=Covers.CODE,
        revocation=Revocation.MINIMUM_TCB,
        minimum_tcb=(TcbVersion.parse(report.reported_tcb, product, "reported_tcb"),),
        provisional_firmware=report.committed_tcb != report.current_tcb,
        policies=(0x30000, 0x3001F),
        platform_required=(),
        mitigations_required=0,
        vmpl=case.facts["vmpl"],
        signing_keys=(signer,),
        csp_ids=(AWS,) if signer is SigningKey.VLEK else (),
        chip_ids=ANY_CHIP,
        host_data=report.host_data,
        id_block=block,
    )


def good_cases() -> Iterator[GoodCase]:
    """Every accepted vector, then simulated ones: with a revocation list, and with each version of the report."""
    signed = (range(SIGNED_BYTES),)
    for case in load_cases():
        if case.facts["verdict"] == "valid":
            committed = case.report_data if any(case.report_data) else None
            yield GoodCase(case.name, case.evidence(), values_for(case), committed, case.time, signed)
    for version in (2, 3, 4, 5):
        name = f"simulated version {version} with a revocation list"
        evidence = simulated_evidence(version=version, more=(revocation_list(),))
        values = simulated_values(revocation=Revocation.CRL)
        yield GoodCase(name, evidence, values, REPORT_DATA, NOW, signed)


def changed_values(case: GoodCase) -> Iterator[tuple[str, SnpReferenceValues]]:
    """The case's reference values with one field changed, under the name that the refusal must have."""
    good, report = case.values, SignedReport.parse(case.evidence.report).report
    (product,), (tcb,) = good.products, good.minimum_tcb
    other = Product.TURIN if product is Product.GENOA else Product.GENOA
    others = TcbVersion.parse(bytes(8), other, "tcb")
    yield "products", replace(good, products=(other,), minimum_tcb=(others,))
    yield "measurements", replace(good, measurements=(_changed(report.measurement),))
    for name, value in tcb.components().items():
        yield "minimum_tcb", replace(good, minimum_tcb=(replace(tcb, **{name: value + 1}),))
    if good.provisional_firmware:
        yield "provisional_firmware", replace(good, provisional_firmware=False)
    yield "policies", replace(good, policies=(report.policy ^ 1 << 20,))
    missing = next(flag for flag in PlatformFlag if not flag.is_set(report.platform_info))
    yield "platform_required", replace(good, platform_required=(missing,))
    bit = next(bit for bit in range(53) if not (report.launch_mitigations or 0) >> bit & 1)
    yield "mitigations_required", replace(good, mitigations_required=1 << bit)
    yield "vmpl", replace(good, vmpl=(report.vmpl + 1) % 4)
    if report.signing_key is SigningKey.VLEK:
        yield "signing_keys", replace(good, signing_keys=(SigningKey.VCEK,), csp_ids=())
        yield "csp_ids", replace(good, csp_ids=("CN=cc-eu-west-1.amazonaws.com",))
    else:
        yield "signing_keys", replace(good, signing_keys=(SigningKey.VLEK,), csp_ids=(AWS,))
    yield "chip_ids", replace(good, chip_ids=(_changed(report.chip_id),))
    yield "host_data", replace(good, host_data=_changed(report.host_data))
    if len(case.evidence.endorsements) in (1, 3):
        yield "revocation", replace(good, revocation=Revocation.CRL)
    yield from _changed_id_blocks(good)


def _changed_id_blocks(good: SnpReferenceValues) -> Iterator[tuple[str, SnpReferenceValues]]:
    block = good.id_block
    if block is None:
        key = IdBlock(
            id_key_digest=b"k" * 48,
            author_key_digest=bytes(48),
            family_id=bytes(16),
            image_id=bytes(16),
            minimum_guest_svn=0,
        )
        yield "id_block.id_key_digest", replace(good, id_block=key)
        return
    yield "id_block.id_key_digest", replace(good, id_block=None)
    for name in ("id_key_digest", "author_key_digest", "family_id", "image_id"):
        other = replace(block, **{name: _changed(getattr(block, name))})
        yield f"id_block.{name}", replace(good, id_block=other)
    later = replace(block, minimum_guest_svn=block.minimum_guest_svn + 1)
    yield "id_block.minimum_guest_svn", replace(good, id_block=later)


def _changed(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]
