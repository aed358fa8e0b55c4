"""One federation of five kinds of vouching: an SEV-SNP appliance, silos in Nitro, Confidential Space, Azure, and none.

Each silo's platform is the real one, chosen by the agreement, over a fake of its interface; AMD's, AWS's and
Google's roots are a test's, and Microsoft's key is pinned in the agreement as anybody's would be.
"""

import base64
import json
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import memory_federation
import pytest
import synthetic_nitro
import synthetic_tokens
from kernel_devices import FakeNsm, FakeSevGuest
from kernel_firmware import Firmware, as_vendor
from memory_federation import MemoryFederation, MemorySilo, agreement_for
from synthetic_tokens import google_claims, jwk, key_set, maa_token, pki_token, service_key, sev_snp_vm

from appliance.enclave.machine import Enclave
from attestation.collect.choose import open_platform
from attestation.collect.http import Response
from attestation.collect.machine import Machine, this_machine
from attestation.collect.platform import Platform
from attestation.families import FAMILIES
from attestation.reference_values import ReferenceValues
from attestation.tee import Tee
from audit.entries import SiloAdmitted, parse_entry
from audit.log_files import LogFiles
from audit.report import AuditVerdict
from audit.verify import verify
from protocol.agreement import Agreement
from protocol.agreement_tees import render_tee
from protocol.errors import RefusalCode, RefusedError

REFERENCES: tuple[ReferenceValues | None, ...] = (
    synthetic_nitro.reference_values(),
    synthetic_tokens.GOOGLE.reference(pki_token()),
    FAMILIES[Tee.AZURE_MAA].reference(maa_token(sev_snp_vm())),
    None,
)


class SigningNsm(FakeNsm):
    """A Nitro security module whose documents our own root vouches for."""

    def _answer(self, asked: object) -> object:
        if asked == "DescribeNSM" or not isinstance(asked, dict):
            return super()._answer(asked)
        evidence = synthetic_nitro.hypervisor().evidence(**asked["Attestation"])
        return {"Attestation": {"document": evidence.report}}


@dataclass
class Launcher:
    """Confidential Space's launcher, with Google's service behind it."""

    name: str = "launcher"

    def obstacle(self) -> str | None:
        return None

    def post(self, path: str, body: bytes) -> Response:
        asked = json.loads(body)
        claims = google_claims(eat_nonce=asked["nonces"], aud=asked["audience"])
        return Response(status=200, body=pki_token(claims).report)


@dataclass
class Sidecar:
    """Azure's sidecar: has the hardware commit to a digest of the runtime data, and Microsoft's service say so."""

    name: str = "sidecar"

    def obstacle(self) -> str | None:
        return None

    def post(self, path: str, body: bytes) -> Response:
        runtime = base64.b64decode(json.loads(body)["runtime_data"])
        report_data = sha256(runtime).digest() + bytes(32)
        claims = {"x-ms-sevsnpvm-reportdata": report_data.hex(), "x-ms-runtime": json.loads(runtime)}
        token = maa_token(sev_snp_vm(**claims)).report
        return Response(status=200, body=json.dumps({"token": token.decode()}).encode())


class MixedFederation(MemoryFederation):
    """`MemoryFederation` with a machine of its own kind for each party."""

    def __init__(self, endorsements: Path) -> None:
        self.endorsements = endorsements
        self.firmware = Firmware()
        super().__init__(tee="sev-snp", replace={"rounds = 40": "rounds = 2"}, platform=self.appliance_platform)

    def appliance_platform(self, measurement: bytes) -> Platform:
        machine = replace(this_machine(), sev_guest=FakeSevGuest(self.firmware), vmpl=lambda: 0)
        return open_platform(self.agreement.appliance, machine=machine, endorsements=None)

    def boot(self, **arguments: object) -> Enclave:
        self.now = synthetic_tokens.SECONDS
        return super().boot(**arguments)  # type: ignore[arg-type]

    def silo(self, name: str, *, agreement: Agreement | None = None) -> MemorySilo:
        silo = super().silo(name, agreement=agreement)
        terms = self.agreement.silo(name)
        platform = None
        if terms.needs_evidence:
            folder = self.endorsements if Tee.AZURE_MAA in {item.tee for item in terms.reference_values} else None
            machine = machine_of(terms.reference_values[0].tee)
            platform = open_platform(terms.reference_values, machine=machine, endorsements=folder)
        silo.machine._party = replace(silo.machine._party, platform=platform)
        return silo


def machine_of(tee: Tee) -> Machine:
    nothing = this_machine()
    return {
        Tee.NITRO: replace(nothing, nsm=SigningNsm()),
        Tee.CONFIDENTIAL_SPACE: replace(nothing, launcher=Launcher()),
        Tee.AZURE_MAA: replace(nothing, sidecar=Sidecar()),
    }[tee]


def mixed(agreement: Agreement) -> Agreement:
    """The same agreement, whose silos are vouched for in four ways."""
    head, *silos = agreement.source.decode().split("[[silo]]\n")
    tables = [render_tee(values, "silo.tee") for values in REFERENCES]
    parts = [silo[: silo.index("[[silo.tee]]")] + table for silo, table in zip(silos, tables, strict=True)]
    return Agreement.parse("[[silo]]\n".join([head, *parts]).encode(), "federation.toml")


@pytest.fixture
def federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MixedFederation:
    as_vendor(monkeypatch)
    monkeypatch.setitem(FAMILIES, Tee.NITRO, synthetic_nitro.FAMILY)  # type: ignore[arg-type]
    monkeypatch.setitem(FAMILIES, Tee.CONFIDENTIAL_SPACE, synthetic_tokens.GOOGLE)  # type: ignore[arg-type]
    monkeypatch.setattr(memory_federation, "agreement_for", lambda *args, **named: mixed(agreement_for(*args, **named)))
    (tmp_path / "certs.json").write_bytes(key_set(jwk(service_key())))
    return MixedFederation(tmp_path)


def test_every_silo_is_admitted_by_what_the_agreement_names_and_the_log_says_so(federation: MixedFederation) -> None:
    federation.enrol_all()
    federation.run()
    assert all(silo.finished and not silo.errors for silo in federation.silos.values())
    entries = [parse_entry(data) for _, data in federation.history()]
    admitted = {entry.silo: entry.tee for entry in entries if isinstance(entry, SiloAdmitted)}
    assert admitted == {"silo-0": "nitro", "silo-1": "confidential-space", "silo-2": "azure-maa", "silo-3": "none"}
    report = verify(LogFiles(federation.store), federation.agreement)
    assert report.verdict is AuditVerdict.PASS, report


def test_without_its_services_key_set_a_token_can_not_be_checked(federation: MixedFederation) -> None:
    (federation.endorsements / "certs.json").unlink()
    with pytest.raises(RefusedError) as refused:
        federation.enrol(federation.silo("silo-2"))
    assert refused.value.refusal.code is RefusalCode.EVIDENCE_UNCHECKABLE
