"""Admission: where a silo's evidence becomes a verdict, a log entry and a credential.

Cheap checks come before dear ones, and what strangers can ask for (`asked`, `opened`) changes nothing but a count:
`Enclave` calls it outside its lock, and the rest under it. The table of admissions is this boot's memory: every later
object of a silo is checked against it, and a restart empties it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from appliance.enclave.boot import Boot
from appliance.enclave.challenges import Challenges
from appliance.enclave.ledger import Ledger
from attestation import Evidence, Tee
from audit.entries import SiloAdmitted, SiloRefused
from protocol.agreement import Agreement, SiloTerms, mismatch
from protocol.appraisal import appraise_silo
from protocol.credentials import check_credential_key
from protocol.enrolment import (
    ADMITTED_LABEL,
    HELLO_LABEL,
    WELCOME_LABEL,
    Admitted,
    Enrol,
    Hello,
    SiloKeys,
    Welcome,
    open_enrolment,
    parse_enrolment,
)
from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError, refuse
from protocol.key_history import CATCHUP_LABEL, Catchup
from protocol.signed import open_message, sign_message, unverified_body

_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A silo that is in: the keys that its evidence vouches for, until `expires` (unix seconds)."""

    silo: str
    keys: SiloKeys
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """An enrolment request that a named silo's identity key has signed, and its exact bytes."""

    signed: bytes
    enrol: Enrol


class AdmissionDesk:
    """Answers `Hello` and `Enrol`, and holds the table of admissions."""

    def __init__(self, *, agreement: Agreement, boot: Boot, ledger: Ledger, random: Callable[[int], bytes]) -> None:
        self._agreement = agreement
        self._boot = boot
        self._ledger = ledger
        self._challenges = Challenges(boot_id=boot.boot_id, random=random)
        self._admissions: dict[str, Admission] = {}
        self._identities = {silo.name: silo.identity for silo in agreement.silos}
        self.strangers = 0

    @property
    def admitted(self) -> tuple[str, ...]:
        """Names of the silos with an admission, expired or not, in the agreement's order."""
        return tuple(silo.name for silo in self._agreement.silos if silo.name in self._admissions)

    def latest(self, silo: str) -> Admission:
        """The admission of a silo that has one, expired or not."""
        return self._admissions[silo]

    def current(self, silo: str, now: int) -> Admission:
        """The silo's admission; raises `RefusedError` (not-admitted, credential-expired)."""
        admission = self._admissions.get(silo)
        if admission is None:
            raise refuse(
                RefusalCode.NOT_ADMITTED,
                expected="a silo admitted in this boot of the appliance",
                found=f"{silo} without an admission",
                remedy="enrol again (`strongroom silo enroll`)",
            )
        if now >= admission.expires:
            raise refuse(
                RefusalCode.CREDENTIAL_EXPIRED,
                expected="a credential that is still valid",
                found=f"one that expired {now - admission.expires} s ago",
                remedy="enrol again (`strongroom silo enroll`); clients renew at two thirds of its life",
            )
        return admission

    def asked(self, message: bytes) -> tuple[Hello, Evidence]:
        """A named silo's `Hello`, and evidence over its nonce; raises `RefusedError`."""
        try:
            hello = Hello.parse(unverified_body(message))
        except MalformedError as error:
            raise self._stranger(RefusalCode.MALFORMED, "a hello", str(error)) from error
        if hello.agreement != self._agreement.digest:
            raise mismatch(self._agreement.digest, hello.agreement)
        self._open_signed(hello.silo, HELLO_LABEL, message)
        return hello, self._boot.evidence_for(hello.nonce)

    def catchup(self, message: bytes) -> Catchup:
        """A named silo's question for the log's former keys; raises `RefusedError`."""
        try:
            catchup = Catchup.parse(unverified_body(message))
        except MalformedError as error:
            raise self._stranger(RefusalCode.MALFORMED, "a catchup", str(error)) from error
        if catchup.agreement != self._agreement.digest:
            raise mismatch(self._agreement.digest, catchup.agreement)
        self._open_signed(catchup.silo, CATCHUP_LABEL, message)
        return catchup

    def welcome(self, hello: Hello, evidence: Evidence) -> bytes:
        """Answer a `Hello`."""
        welcome = Welcome(
            agreement=self._agreement.digest,
            origin=self._boot.origin,
            boot_id=self._boot.boot_id,
            keys=self._boot.keys,
            nonce=hello.nonce,
            evidence=evidence.encode(),
            challenge=self._challenges.issue(hello.silo, self._ledger.now()),
            checkpoint=self._ledger.checkpoint_text,
        )
        return sign_message(self._boot.signing, WELCOME_LABEL, welcome.encode())

    def enrol(self, request: SignedRequest) -> bytes:
        """Judge an enrolment request; logs the verdict, then answers or raises `RefusedError`."""
        signed, enrol = request.signed, request.enrol
        terms = self._agreement.silo(enrol.silo)
        now = self._ledger.now()
        self._require_fresh(enrol, now)
        try:
            tee = self._judge(enrol, terms, now)
        except RefusedError as error:
            self._ledger.record(
                SiloRefused(
                    time=now,
                    boot_id=self._boot.boot_id,
                    silo=enrol.silo,
                    code=str(error.refusal.code),
                    request=self._ledger.put_object(signed),
                )
            )
            raise
        expires = now + self._agreement.federation.credential_seconds
        credential = self._boot.ca.issue(
            spki_der=enrol.keys.credential,
            spiffe_id=self._agreement.spiffe_id(enrol.silo),
            not_before=now - 300,
            not_after=expires + _DAY_SECONDS,
        )
        self._ledger.record(
            SiloAdmitted(
                time=now,
                boot_id=self._boot.boot_id,
                silo=enrol.silo,
                owner=terms.owner,
                jurisdiction=terms.jurisdiction,
                tee=str(tee),
                request=self._ledger.put_object(signed),
                expires=expires,
            )
        )
        self._admissions[enrol.silo] = Admission(silo=enrol.silo, keys=enrol.keys, expires=expires)
        entry, receipt = self._ledger.receipt(self._ledger.size - 1)
        admitted = Admitted(
            silo=enrol.silo,
            boot_id=self._boot.boot_id,
            credential=credential,
            expires=expires,
            entry=entry,
            receipt=receipt,
        )
        return sign_message(self._boot.signing, ADMITTED_LABEL, admitted.encode())

    def opened(self, sealed: bytes) -> SignedRequest:
        """Open a sealed enrolment request; raises `RefusedError`, which isn't logged."""
        try:
            signed = open_enrolment(sealed, self._boot.boot_id, self._boot.sealing)
            return SignedRequest(signed=signed, enrol=parse_enrolment(signed, self._identities))
        except MalformedError as error:
            raise self._stranger(RefusalCode.MALFORMED, "an enrolment request", str(error)) from error
        except SignatureError as error:
            if sealed[:32] != self._boot.boot_id:
                raise refuse(
                    RefusalCode.WRONG_BOOT,
                    expected=f"a request sealed to boot {self._boot.boot_id.hex()[:16]}…",
                    found=f"one for boot {sealed[:32].hex()[:16]}…",
                    remedy="the appliance restarted; enrol again from the start",
                ) from error
            raise self._stranger(
                RefusalCode.IDENTITY_SIGNATURE, "a request signed by the silo's identity key", str(error)
            ) from error
        except KeyError as error:
            raise self._stranger(RefusalCode.UNKNOWN_SILO, "a silo that the agreement names", str(error)) from error

    def _require_fresh(self, enrol: Enrol, now: int) -> None:
        """The request answers a challenge of this boot, once. Anybody can repeat one that doesn't: it isn't logged."""
        if enrol.boot_id != self._boot.boot_id or enrol.appliance != self._boot.keys.signing:
            raise refuse(
                RefusalCode.WRONG_BOOT,
                expected="a request for this boot of the appliance and its signing key",
                found="one for another",
                remedy="enrol again from the start",
            )
        self._challenges.redeem(enrol.silo, enrol.challenge, now)

    def _judge(self, enrol: Enrol, terms: SiloTerms, now: int) -> Tee:
        """Everything that a fresh request is refused for, in the log; returns the TEE that vouches for the silo."""
        if enrol.agreement != self._agreement.digest:
            raise mismatch(self._agreement.digest, enrol.agreement)
        if enrol.keys.identity != terms.identity.raw:
            raise refuse(
                RefusalCode.IDENTITY_SIGNATURE,
                expected=f"identity key {terms.identity}",
                found="another identity key in the request",
                remedy="use the key file that the agreement's [[silo]] block was made from",
            )
        try:
            enrol.keys.sealing_key.seal(b"", "strongroom/probe/v1")
            check_credential_key(enrol.keys.credential)
        except MalformedError as error:
            raise refuse(
                RefusalCode.MALFORMED, expected="usable keys", found=str(error), remedy="update the silo's software"
            ) from error
        return appraise_silo(enrol, terms, now)

    def _open_signed(self, silo: str, label: str, message: bytes) -> None:
        try:
            key = self._agreement.silo(silo).identity
        except RefusedError:
            self.strangers += 1
            raise
        try:
            open_message(key, label, message, f"hello of {silo}")
        except SignatureError as error:
            raise self._stranger(
                RefusalCode.IDENTITY_SIGNATURE,
                f"a hello signed by {silo}'s identity key {key}",
                "another key's signature",
            ) from error

    def _stranger(self, code: RefusalCode, expected: str, found: str) -> RefusedError:
        self.strangers += 1
        return refuse(
            code, expected=expected, found=found, remedy="check the silo's name, identity key file and agreement"
        )
