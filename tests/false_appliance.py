"""An appliance that lies, listening where a silo's real client calls: over TLS and gRPC, with evidence of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agreement_examples import MEASUREMENT
from process_federation import Ports, ProcessFederation
from silo_appliance import FakeAppliance

from appliance.gateway.servers import Certificate, open_enrolment
from attestation.collect.platform import Platform, SimulatedPlatform
from attestation.evidence import Evidence
from attestation.reference_values import ANY_CHIP, Covers, IdBlock, Revocation, SnpReferenceValues
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product
from attestation.snp.report import SignedReport
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee
from protocol.credentials import new_credential_key
from protocol.enrolment import Hello, Welcome
from protocol.layout import Layout
from protocol.signed import unverified_body
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc

_SNP = Path(__file__).parent / "vectors" / "data" / "snp" / "confidential-containers-trustee"
Answer = Callable[[bytes], bytes | pb.Refusal]


class Liar(FakeAppliance):
    """A `FakeAppliance` whose evidence is for the code that the agreement names; `platform` makes it."""

    def __init__(self, made: ProcessFederation) -> None:
        """With the agreement of a federation, whose own appliance need not run."""
        self.platform: Platform = SimulatedPlatform(made.agreement.appliance[0].measurements[0])
        super().__init__(made.agreement, Layout.parse((made.folder / "layout.json").read_bytes()))

    def evidence(self, welcome: Welcome, nonce: bytes, measurement: bytes = b"") -> bytes:
        """Evidence for a welcome's keys over a nonce."""
        return self.platform.evidence(welcome.expected_report_data(nonce)).encode()

    def honest(self, message: bytes) -> Welcome:
        """What a good answer to this `Hello` says."""
        return Welcome.parse(unverified_body(self.welcome(message)))

    def with_platform(self, platform: Platform, message: bytes) -> bytes:
        """A good answer but for who vouches for it."""
        honest = self.honest(message)
        evidence = platform.evidence(honest.expected_report_data(Hello.parse(unverified_body(message)).nonce))
        return self.welcome(message, evidence=evidence.encode())


class FalsePort(rpc.EnrolmentServicer):
    """The enrolment port; `hello` and `enrol` answer. `heard`: the enrolment requests that silos have sent it."""

    def __init__(self, hello: Answer, enrol: Answer) -> None:
        self.hello = hello
        self.enrol = enrol
        self.heard: list[bytes] = []

    def Hello(self, request: pb.Message, context: object) -> pb.Reply:
        return _reply(self.hello(request.message))

    def Enrol(self, request: pb.Message, context: object) -> pb.Reply:
        self.heard.append(request.message)
        return _reply(self.enrol(request.message))


def _reply(answer: bytes | pb.Refusal) -> pb.Reply:
    return pb.Reply(message=answer) if isinstance(answer, bytes) else pb.Reply(refusal=answer)


@contextmanager
def listening(port: FalsePort) -> Iterator[Ports]:
    """Serve it as the gateway serves its own; there is no federation port behind it."""
    certificate = Certificate.create(new_credential_key(), int(time.time()))
    server, where = open_enrolment("127.0.0.1:0", port, certificate)  # type: ignore[arg-type]
    try:
        yield Ports(enrolment=int(where.rpartition(":")[2]), federation=1)
    finally:
        server.stop(None).wait()


# Evidence of a real machine


def genuine() -> Evidence:
    """A real report of somebody's machine under AMD's real root; its certificate ends in 2032."""
    report, endorsement = (_SNP / name for name in ("genoa.report.bin", "genoa.vcek.der"))
    return Evidence(tee=Tee.SEV_SNP, report=report.read_bytes(), endorsements=(endorsement.read_bytes(),))


def accepting(evidence: Evidence) -> SnpReferenceValues:
    """Reference values for exactly this guest, beside our own code."""
    report = SignedReport.parse(evidence.report).report
    return SnpReferenceValues(
        tee=Tee.SEV_SNP,
        products=(Product.GENOA,),
        measurements=(report.measurement, bytes.fromhex(MEASUREMENT)),
        covers=Covers.CODE,
        revocation=Revocation.MINIMUM_TCB,
        minimum_tcb=(TcbVersion.parse(report.reported_tcb, Product.GENOA, "reported_tcb"),),
        provisional_firmware=True,
        policies=(report.policy,),
        platform_required=(),
        mitigations_required=0,
        vmpl=report.vmpl,
        signing_keys=(SigningKey.VCEK,),
        csp_ids=(),
        chip_ids=ANY_CHIP,
        host_data=report.host_data,
        id_block=IdBlock(
            id_key_digest=report.id_key_digest,
            author_key_digest=report.author_key_digest,
            family_id=report.family_id,
            image_id=report.image_id,
            minimum_guest_svn=report.guest_svn,
        ),
    )
