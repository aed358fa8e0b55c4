"""A silo's half of enrolment: what it asks, and everything that it checks before it believes an appliance.

Where the log has another key than the one that the silo knows, it asks for the changes in between and follows them.

Trusts its own copy of the agreement and what it remembers of the log. One `Dialog` is one attempt; its nonce and keys
are made for it and die with it. Pure: messages in, messages out. `SiloMachine` calls it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from attestation.collect.errors import CollectError
from attestation.collect.platform import Platform
from audit.agreed import log_key_of
from audit.entries import SiloAdmitted, parse_entry
from audit.note import Checkpoint
from audit.proof import Receipt
from audit.vouching import Voucher
from protocol.agreement import Agreement, mismatch
from protocol.appraisal import appraise_appliance
from protocol.credentials import CredentialKey, new_credential_key
from protocol.enrolment import (
    ADMITTED_LABEL,
    ENROL_LABEL,
    HELLO_LABEL,
    NONCE_BYTES,
    WELCOME_LABEL,
    Admitted,
    ApplianceKeys,
    Enrol,
    Hello,
    SiloKeys,
    Welcome,
    seal_enrolment,
)
from protocol.errors import MalformedError, ProtocolError, RefusalCode, RefusedError, refuse
from protocol.keys import SEALING_SEED_BYTES, SealingKey, Secret, SigningKey
from protocol.signed import open_message, sign_message, unverified_body
from silo_client.channel import Credential
from silo_client.following import Following
from silo_client.state import SiloState
from silo_client.witness import Witness


class NoEvidenceError(ProtocolError):
    """This silo's own TEE made none; one line that says why, and whether to try again."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Enrolled(Secret):
    """An appraised boot of the appliance that has admitted this silo, and the silo's keys for it."""

    boot_id: bytes
    keys: ApplianceKeys
    sealing: SealingKey
    credential: Credential


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Party(Secret):
    """Who enrols: the parts that every dialog of this silo shares."""

    agreement: Agreement
    silo: str
    identity: SigningKey
    platform: Platform | None
    state: SiloState
    witness: Witness
    random: Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Asked(Secret):
    """What the request bound: the welcome that it answers, the keys that it named, the digest of its signed bytes.

    `appraised_at`: the unix time at which the welcome's evidence held.
    """

    welcome: Welcome
    appraised_at: int
    sealing: SealingKey
    credential: CredentialKey
    request: bytes


class Dialog:
    """One enrolment: `hello`, then `catchup` and `caught_up` until there is nothing to ask, `welcome`, `admitted`."""

    def __init__(self, party: Party) -> None:
        self._party = party
        self._nonce = party.random(NONCE_BYTES)
        self._known_size = party.witness.known_size
        self._asked: _Asked | None = None
        self._following = Following(
            agreement=party.agreement,
            silo=party.silo,
            identity=party.identity,
            state=party.state,
            witness=party.witness,
        )
        self._voucher: Voucher | None = None

    def hello(self) -> bytes:
        """The signed `Hello`."""
        party = self._party
        hello = Hello(silo=party.silo, agreement=party.agreement.digest, nonce=self._nonce)
        return sign_message(party.identity, HELLO_LABEL, hello.encode())

    def catchup(self, message: bytes, now: int) -> bytes | None:
        """What to ask before the `Welcome` is answered, if its log key is not the one that this silo knows.

        None once nothing has to be asked (any more). Raises what `welcome` raises for checks 1 to 6.
        """
        party = self._party
        try:
            key = Welcome.parse(unverified_body(message)).keys.log_key
        except MalformedError:
            return None
        if not party.witness.may_follow(key):
            return None
        welcome, appraised_at = self._appraised(message, now)
        self._voucher = Voucher.of_welcome(welcome, time=appraised_at)
        return self._following.question()

    def caught_up(self, message: bytes, answer: bytes) -> None:
        """Follow the log to the key of the `Welcome` that was asked about; adopt it once it is reached.

        Every change is shown by the key before it, and the last key by the evidence that `catchup` appraised. Raises
        `LogBrokenError` (other-log), `MalformedError`.
        """
        welcome = Welcome.parse(unverified_body(message))
        reached = self._following.take(answer, key=welcome.keys.log, note=welcome.checkpoint)
        if reached and self._voucher is not None:
            self._party.state.keep_voucher(self._voucher)
            self._following.adopt()
            self._known_size = self._party.witness.known_size

    def welcome(self, message: bytes, now: int) -> bytes:
        """Check the `Welcome` and answer with the sealed `Enrol`; nothing leaves before every check has passed.

        1. it parses                                             `MalformedError`
        2. its agreement is ours, byte for byte                  agreement-mismatch, with both digests
        3. its log's origin is the agreement's                   other-log
        4. it is signed by the key that it names                 `SignatureError`
        5. it answers our nonce                                  stale-nonce
        6. evidence vouches for all its keys, under our own copy of the agreement and our own nonce    evidence-…
        7. its log key is the one that we have known             other-log (a second genesis), log-rolled-back (retired)
        8. its checkpoint is signed by that key, and not smaller than our head    log-rolled-back, log-forked
        """
        party = self._party
        welcome, appraised_at = self._appraised(message, now)
        # 7
        checkpoint = Checkpoint.parse(welcome.checkpoint.encode())
        party.witness.require_log(welcome.keys.log_key, checkpoint)
        # 8
        log_key = log_key_of(party.agreement, welcome.keys.log_key)
        party.witness.observe(checkpoint, log_key, at_least=self._known_size)
        return self._request(welcome, appraised_at)

    def _appraised(self, message: bytes, now: int) -> tuple[Welcome, int]:
        """Checks 1 to 6 of `welcome`, and the unix time for which the evidence was appraised."""
        party = self._party
        # 1
        body = unverified_body(message)
        welcome = Welcome.parse(body)
        # 2
        if welcome.agreement != party.agreement.digest:
            raise mismatch(party.agreement.digest, welcome.agreement)
        # 3
        if welcome.origin != party.agreement.log.origin:
            raise refuse(
                RefusalCode.OTHER_LOG,
                expected=f"the log {party.agreement.log.origin}",
                found=welcome.origin[:120],
                remedy="check the appliance's address in silo.toml",
            )
        # 4
        open_message(welcome.keys.signing_key, WELCOME_LABEL, message, "welcome")
        # 5
        if welcome.nonce != self._nonce:
            raise refuse(
                RefusalCode.STALE_NONCE,
                expected="an answer to this silo's nonce",
                found="an answer to another",
                remedy="somebody repeats an old welcome: enrol again, over another network if it persists",
            )
        # 6
        report_data = welcome.expected_report_data(self._nonce)
        appraised_at = max(now, party.state.cosigned_at)
        appraise_appliance(welcome.evidence, party.agreement, report_data, appraised_at)
        return welcome, appraised_at

    def admitted(self, message: bytes, now: int) -> Enrolled:
        """Check the `Admitted`, keep its receipt, and pin the log at the first enrolment.

        1. it is signed by the key that evidence vouched for     `SignatureError`
        2. it is for this silo and this boot                     wrong-boot
        3. its receipt shows in the pinned log a `silo.admitted` entry for our very request    other-log, `ProofError`
        """
        party, asked = self._party, self._asked
        if asked is None:
            raise ValueError("no enrolment request was made yet")
        # 1
        body = open_message(asked.welcome.keys.signing_key, ADMITTED_LABEL, message, "admission")
        admitted = Admitted.parse(body)
        # 2
        if (admitted.silo, admitted.boot_id) != (party.silo, asked.welcome.boot_id):
            raise refuse(
                RefusalCode.WRONG_BOOT,
                expected=f"an admission of {party.silo} to boot {asked.welcome.boot_id.hex()[:16]}…",
                found=f"one of {admitted.silo} to boot {admitted.boot_id.hex()[:16]}…",
                remedy="enrol again",
            )
        # 3
        self._require_receipt(admitted, asked)
        return Enrolled(
            boot_id=admitted.boot_id,
            keys=asked.welcome.keys,
            sealing=asked.sealing,
            credential=Credential(
                certificate=admitted.credential,
                key=asked.credential,
                expires=admitted.expires,
                renew_at=now + party.agreement.federation.credential_seconds * 2 // 3,
            ),
        )

    def _request(self, welcome: Welcome, appraised_at: int) -> bytes:
        party = self._party
        sealing, credential = SealingKey(party.random(SEALING_SEED_BYTES)), new_credential_key()
        enrol = Enrol(
            silo=party.silo,
            agreement=party.agreement.digest,
            boot_id=welcome.boot_id,
            appliance=welcome.keys.signing,
            challenge=welcome.challenge,
            keys=SiloKeys(
                identity=party.identity.public.raw, sealing=sealing.public.raw, credential=credential.spki_der
            ),
            evidence=None,
        )
        if party.platform is not None:
            enrol = replace(enrol, evidence=_evidence(party.platform, enrol.expected_report_data()))
        # Ed25519 is deterministic: these are the bytes that `seal_enrolment` signs, and that the log keeps.
        signed = sign_message(party.identity, ENROL_LABEL, enrol.encode())
        self._asked = _Asked(
            welcome=welcome,
            appraised_at=appraised_at,
            sealing=sealing,
            credential=credential,
            request=sha256(signed).digest(),
        )
        return seal_enrolment(enrol, party.identity, welcome.keys.sealing_key)

    def _require_receipt(self, admitted: Admitted, asked: _Asked) -> None:
        party = self._party
        log_key = log_key_of(party.agreement, asked.welcome.keys.log_key)
        receipt = Receipt.parse(admitted.receipt.encode())
        receipt.verify(admitted.entry, log_key=log_key, quorum=None)
        entry = parse_entry(admitted.entry)
        if not isinstance(entry, SiloAdmitted) or (entry.silo, entry.boot_id, entry.request) != (
            party.silo,
            asked.welcome.boot_id,
            asked.request,
        ):
            raise _other_entry(party.silo, entry.KIND)
        party.witness.observe(receipt.checkpoint, log_key, at_least=self._known_size)
        party.state.keep_voucher(Voucher.of_welcome(asked.welcome, time=asked.appraised_at))
        # A crash here has pinned nothing; the voucher is as good as the next one.
        if party.state.log_key is None:
            # Not the receipt's checkpoint: the round that is open now may stand on an older one.
            party.state.pin(asked.welcome.keys.log_key)
        party.state.keep_receipt(
            f"{receipt.index:08d}-{entry.KIND}", entry=admitted.entry, receipt=admitted.receipt.encode()
        )


def _evidence(platform: Platform, report_data: bytes) -> bytes:
    try:
        return platform.evidence(report_data).encode()
    except CollectError as error:
        raise NoEvidenceError(f"this machine's TEE makes no evidence: {error}") from error


def _other_entry(silo: str, kind: str | None) -> RefusedError:
    return refuse(
        RefusalCode.OTHER_LOG,
        expected=f"a silo.admitted entry for the request that {silo} has just made",
        found=f"a {kind} entry for something else",
        remedy="the appliance answers with another's receipt: do not go on with it",
    )
