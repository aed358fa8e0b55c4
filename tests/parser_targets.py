"""Every parser of foreign bytes, with the errors that it may raise and some bytes to begin with.

A target takes any bytes and returns; whatever else it raises, or seconds or a gigabyte spent on a few kilobytes, is a
fault. Used by the fuzzer (`make fuzz`, guided by coverage) and by a test that runs each over its seeds.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import synthetic_dcap
from agreement_examples import good_agreement
from audit_forgery import HONEST
from audit_tampering import AGREEMENT, SHORT
from bundled import bundle_of
from forked_logs import account, forked
from memory_federation import MemoryFederation, signing_key
from synthetic_snp import revocation_list, simulated_evidence

from attestation.dcap.collateral import Collateral
from attestation.errors import AttestationError, EvidenceMalformed
from attestation.evidence import Evidence
from attestation.families import FAMILIES
from attestation.recognise import endorsements_in, recognise
from attestation.simulated.reference_values import simulated_reference_values
from attestation.snp.cert_table import CertTable, TableEntry
from attestation.snp.endorsements import Endorsements
from attestation.tee import Tee
from audit.bundle import Bundle
from audit.checkpoint_text import CheckpointText
from audit.compare import compare
from audit.entries import parse_entry
from audit.fraud import FraudProof
from audit.log_files import LogFiles
from audit.note import Checkpoint, Note, VerifierKey
from audit.proof import Receipt
from audit.resumption import Resumption
from audit.selection import Selection, parse_moment, parse_range
from audit.signature_types import SignatureType
from audit.store import MemorySource
from audit.succession import SuccessionProof
from audit.tiles import parse_bundle, parse_hash_tile
from audit.verify import verify
from audit.vouching import Voucher
from audit.witnessing.answer import Answer, read_answer
from audit.witnessing.request import AddCheckpoint
from protocol.agreement import Agreement
from protocol.agreement_tees import render_tee
from protocol.enrolment import Admitted, Enrol, Hello, Welcome
from protocol.errors import ProtocolError
from protocol.key_history import Catchup, KeyHistory
from protocol.layout import Layout
from protocol.policy import read_policy
from protocol.recovery import RecoveryAsk, RecoveryGrant, RecoveryGrants, RecoveryOffer, RecoveryStanding
from protocol.sealing import BlobHeader
from protocol.sealing.geometry import read_prelude
from protocol.session import parse_from_silo, parse_to_silo
from protocol.signed import unverified_body
from protocol.succession import Approval, read_approval, write_approval
from protocol.update import UpdateMetadata

_APPROVAL = Approval(silo="silo-0", predecessor=bytes(32), successor=bytes(32), rounds=1, model=bytes(32))
VECTORS = Path(__file__).parent / "vectors" / "data"
_WITNESS = VerifierKey.of_cosigner("witness.example/w1", signing_key("w1").public)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser. `seeds` are good inputs; `allowed` is everything that it may raise."""

    parse: Callable[[bytes], object]
    allowed: type[Exception]
    seeds: tuple[bytes, ...] = ()

    def __call__(self, data: bytes) -> bool:
        """Whether the bytes were parsed; raises what no parser may raise."""
        try:
            self.parse(data)
        except self.allowed:
            return False
        return True


def _files(*patterns: str, limit: int = 64) -> tuple[bytes, ...]:
    paths = sorted(path for pattern in patterns for path in VECTORS.glob(pattern) if path.is_file())
    return tuple(path.read_bytes() for path in paths[:limit])


def _as_requests(checkpoints: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(b"old 7\n" + 2 * (b"A" * 43 + b"=\n") + b"\n" + checkpoint for checkpoint in checkpoints)


def _evidence_targets() -> dict[str, Target]:
    seeds = _files("snp/**/*.bin", "dcap/**/*", "nitro/**/*", "token/**/*")
    recognised = [(data, evidence) for data in seeds if (evidence := _recognised(data)) is not None]
    snp_endorsements = (*_files("snp/**/*.der", limit=8), revocation_list(serials=(1, 2)))
    targets = {
        "snp-endorsements": Target(
            parse=lambda data: Endorsements.parse((data,)), allowed=EvidenceMalformed, seeds=snp_endorsements
        ),
        "snp-certificate-table": Target(
            parse=CertTable.parse,
            allowed=EvidenceMalformed,
            seeds=(CertTable(entries=(TableEntry(guid=b"g" * 16, data=b"data"),)).encode(),),
        ),
    }
    targets |= {"recognise": Target(parse=recognise, allowed=AttestationError, seeds=seeds)}
    for tee, family in FAMILIES.items():
        own = tuple(evidence.report for _, evidence in recognised if evidence.tee is tee)
        targets[f"describe-{tee}"] = Target(parse=family.describe, allowed=AttestationError, seeds=own)
    return targets | _renewal_targets(snp_endorsements)


def _renewal_targets(of_amd: tuple[bytes, ...]) -> dict[str, Target]:
    """An auditor's list of another day, beside evidence that was good once."""
    quote, amd, intel = synthetic_dcap.evidence(), simulated_evidence(), synthetic_dcap.FAMILIES[Tee.TDX]
    now = synthetic_dcap.NOW
    return {
        "renewal-snp": Target(
            parse=lambda data: FAMILIES[Tee.SIMULATED].renewed(amd, (data,), now),
            allowed=AttestationError,
            seeds=of_amd,
        ),
        "renewal-dcap": Target(
            parse=lambda data: intel.renewed(quote, (*quote.endorsements, data), now),
            allowed=AttestationError,
            seeds=quote.endorsements,
        ),
    }


def _recognised(data: bytes) -> Evidence | None:
    try:
        return recognise(data)
    except AttestationError:
        return None


def _spoken() -> dict[str, tuple[bytes, ...]]:
    """What the parties of a small federation say in one round, by the name of the target that reads it."""
    said: dict[str, list[bytes]] = defaultdict(list)
    federation = MemoryFederation(replace={"rounds = 40": "rounds = 1"})
    for terms in federation.agreement.silos:
        silo = federation.silo(terms.name)
        hello = silo.machine.hello()
        welcome = federation.enclave.hello(hello)
        admitted = federation.enclave.enrol(silo.machine.welcome(welcome))
        silo.machine.admitted(admitted)
        join = silo.machine.join()
        federation.enclave.receive(silo.name, join)
        said["hello"].append(unverified_body(hello))
        said["welcome"].append(unverified_body(welcome))
        said["admitted"].append(unverified_body(admitted))
        said["from-silo"].append(join)
    deliver = federation.deliver

    def heard(name: str, message: bytes) -> None:
        said["to-silo"].append(message)
        deliver(name, message)

    federation.deliver = heard  # type: ignore[method-assign]
    federation.run()
    federation.boot(rotate_log_key=True)
    for silo in federation.silos.values():
        question = silo.machine.catchup(federation.enclave.hello(silo.machine.hello()))
        if question is not None:
            said["catchup"].append(unverified_body(question))
            said["key-history"].append(federation.enclave.hello(question))
    said["entry"] = [data for _, data in federation.history()]
    said["layout"] = [federation.layout.encode()]
    bodies = [
        federation.body(name.removeprefix("models/").removesuffix(".blob")) for name in federation.store.list("models/")
    ]
    said["blob-header"] = [read_prelude(body)[0] for body in bodies]
    return {name: tuple(messages[-8:]) for name, messages in said.items()}


def _fraud_proof() -> bytes:
    compared = compare(account(HONEST), account(forked(20, HONEST.until(30))), HONEST.agreement)
    return b"" if compared.proof is None else compared.proof.encode_file()


def _verifier_keys() -> tuple[bytes, ...]:
    """One of each type."""
    public = json.loads((VECTORS / "formats" / "vkeys.json").read_text())["good"]
    mldsa = VerifierKey(name="w.example/w", type=SignatureType.MLDSA_COSIGNATURE, public=bytes(1312))
    return tuple(text.encode() for text in (*public, str(mldsa)))


def _read_bundle(data: bytes) -> None:
    bundle = Bundle(MemorySource("bundle", data))
    for name in bundle.names():
        bundle.read(name)


def _kept() -> tuple[bytes, ...]:
    kept: list[bytes] = []
    verify(LogFiles(SHORT), AGREEMENT, keep=lambda resumption: kept.append(resumption.encode()))
    return tuple(kept)


def targets() -> dict[str, Target]:
    """All of them, by name."""
    spoken = _spoken()
    agreement = good_agreement().encode()
    policy = render_tee(simulated_reference_values(bytes(48)), "appliance.tee", explained=True).encode()

    def message(name: str, parse: Callable[[bytes], object]) -> Target:
        return Target(parse=parse, allowed=ProtocolError, seeds=spoken.get(name, ()))

    return {
        **_evidence_targets(),
        "evidence": Target(parse=Evidence.parse, allowed=AttestationError),
        "endorsements": Target(
            parse=lambda data: endorsements_in(data, "endorsement"), allowed=AttestationError, seeds=_files("**/*.pem")
        ),
        "collateral": Target(
            parse=lambda data: Collateral.gather((data,)),
            allowed=AttestationError,
            seeds=_files("dcap/**/*collateral*", "dcap/**/*.der", "dcap/google-go-tdx-guest/*"),
        ),
        "policy": Target(parse=lambda data: read_policy(data, "policy.toml"), allowed=ProtocolError, seeds=(policy,)),
        "agreement": Target(
            parse=lambda data: Agreement.parse(data, "federation.toml"), allowed=ProtocolError, seeds=(agreement,)
        ),
        "layout": message("layout", Layout.parse),
        "blob-header": message("blob-header", BlobHeader.parse),
        "update-metadata": message("update-metadata", UpdateMetadata.parse),
        "hello": message("hello", Hello.parse),
        "welcome": message("welcome", Welcome.parse),
        "enrol": message("enrol", Enrol.parse),
        "admitted": message("admitted", Admitted.parse),
        "catchup": message("catchup", Catchup.parse),
        "key-history": message("key-history", KeyHistory.parse),
        "recovery-ask": message("recovery-ask", RecoveryAsk.parse),
        "recovery-offer": message("recovery-offer", RecoveryOffer.parse),
        "recovery-grant": message("recovery-grant", RecoveryGrant.parse),
        "recovery-grants": message("recovery-grants", RecoveryGrants.parse),
        "recovery-standing": message("recovery-standing", RecoveryStanding.parse),
        "from-silo": message("from-silo", parse_from_silo),
        "to-silo": message("to-silo", parse_to_silo),
        "entry": message("entry", parse_entry),
        "note": Target(
            parse=Note.parse, allowed=ProtocolError, seeds=_files("c2sp/signed-note*", "tessera/log/checkpoint*")
        ),
        "checkpoint": Target(parse=Checkpoint.parse, allowed=ProtocolError, seeds=_files("tessera/log/checkpoint*")),
        "checkpoint-text": Target(
            parse=CheckpointText.parse,
            allowed=ProtocolError,
            seeds=tuple(data.partition(b"\n\n")[0] + b"\n" for data in _files("tessera/log/checkpoint*")),
        ),
        "verifier-key": Target(
            parse=lambda data: VerifierKey.parse(data.decode("utf-8", "replace")),
            allowed=ProtocolError,
            seeds=_verifier_keys(),
        ),
        "add-checkpoint": Target(
            parse=AddCheckpoint.parse, allowed=ProtocolError, seeds=_as_requests(_files("tessera/log/checkpoint*"))
        ),
        "witness-cosignature": Target(
            parse=lambda data: read_answer(Answer(status=200, content_type="", body=data), _WITNESS),
            allowed=ProtocolError,
            seeds=tuple(data.partition(b"\n\n")[2] for data in _files("tessera/log/checkpoint*")),
        ),
        "witness-conflict": Target(
            parse=lambda data: read_answer(replace(Answer.conflict(0), body=data), _WITNESS),
            allowed=ProtocolError,
            seeds=(b"20852163\n",),
        ),
        "log-bundle": Target(parse=_read_bundle, allowed=ProtocolError, seeds=(bundle_of(SHORT, AGREEMENT),)),
        "resumption": Target(parse=Resumption.parse, allowed=ProtocolError, seeds=_kept()),
        "receipt": Target(parse=Receipt.parse, allowed=ProtocolError, seeds=_files("c2sp/tlog-proof*")),
        "approval": Target(parse=Approval.parse, allowed=ProtocolError, seeds=(_APPROVAL.encode(),)),
        "approval-file": Target(
            parse=lambda data: read_approval(data, "silo-0.approval"),
            allowed=ProtocolError,
            seeds=(write_approval(_APPROVAL.encode()),),
        ),
        "succession-proof": Target(parse=SuccessionProof.parse, allowed=ProtocolError),
        "fraud-proof": Target(
            parse=lambda data: FraudProof.parse_file(data).verify(None), allowed=ProtocolError, seeds=(_fraud_proof(),)
        ),
        "fraud-proof-body": Target(
            parse=lambda data: FraudProof.parse(data).verify(None),
            allowed=ProtocolError,
            seeds=(_fraud_proof().partition(b"\n")[2],),
        ),
        "log-key-voucher": Target(
            parse=Voucher.parse, allowed=ProtocolError, seeds=tuple(item.encode() for item in account(HONEST).vouchers)
        ),
        "entry-range": Target(parse=lambda data: parse_range(data.decode("latin-1")), allowed=ProtocolError),
        "moment": Target(
            parse=lambda data: parse_moment(data.decode("latin-1")),
            allowed=ProtocolError,
            seeds=(b"2026-01-31T12:00+01:00", b"1767225600"),
        ),
        "selected-entry": Target(
            parse=lambda data: data in Selection(silo="silo-0", since=1), allowed=ProtocolError, seeds=spoken["entry"]
        ),
        "hash-tile": Target(
            parse=lambda data: parse_hash_tile(data, width=15),
            allowed=ProtocolError,
            seeds=_files("tessera/log/tile/0/000.p/*"),
        ),
        "bundle": Target(
            parse=lambda data: parse_bundle(data, width=15),
            allowed=ProtocolError,
            seeds=_files("tessera/log/tile/entries/000.p/*"),
        ),
    }
