"""Evidence again from its bytes: whatever the enclave believed when it wrote an entry, the auditor must believe too.

The reference values and identity keys are those of the auditor's own agreement, `report_data` is computed here, and
`now` is the entry's time, as the collateral that vouched then may have expired since. Called by the audit for each
entry once the transition table has taken it.

1. the object that the entry names is there, and is a request signed by the silo that the entry names
2. the request is for this boot and its signing key
3. no request and no challenge is used twice in a boot, neither for an admission nor for a refusal
4. an admission's request is for this agreement, under its identity key, with keys that can be used; the evidence is
   accepted, by the TEE that the entry names
5. a refusal's reason is true
6. where a log goes on from another, or another from it, the seam holds (`audit.succession`)
"""

from collections.abc import Callable
from typing import ClassVar

from attestation import Tee
from audit.divergence import DivergenceError
from audit.doubts import Doubts
from audit.entries import (
    ApplianceStarted,
    Entry,
    KeyRotated,
    LogGenesis,
    LogRecovered,
    LogSuperseded,
    SiloAdmitted,
    SiloRefused,
)
from audit.findings import Findings
from audit.named_objects import NamedObjects
from audit.replay import History
from audit.report import Line
from audit.succession import check_begun, check_ended
from protocol.agreement import Agreement, SiloTerms
from protocol.agreement_toml import printable
from protocol.appraisal import appraise_appliance, appraise_silo
from protocol.credentials import check_credential_key
from protocol.enrolment import Enrol, parse_enrolment
from protocol.errors import MalformedError, ProtocolError, RefusalCode, RefusedError, SignatureError

LATEST_TIME = 253_402_300_799  # The end of the year 9999: evidence can't be appraised at later dates.
_EVIDENCE_CODES = frozenset(
    {
        RefusalCode.EVIDENCE_MALFORMED,
        RefusalCode.EVIDENCE_NOT_AUTHENTIC,
        RefusalCode.EVIDENCE_REFUSED,
        RefusalCode.EVIDENCE_UNCHECKABLE,
    }
)


class EvidenceAgain:
    """Appraises what entries name. Its memory is one boot's requests."""

    NOT_KEPT: ClassVar = frozenset({"_agreement", "_objects", "_findings", "_identities", "_doubts"})

    def __init__(
        self, *, agreement: Agreement, objects: NamedObjects, findings: Findings, doubts: Doubts | None
    ) -> None:
        """`doubts` is told of whatever is accepted, to look at it once more as of another day."""
        self.appraised = 0
        self._doubts = doubts
        self._agreement = agreement
        self._objects = objects
        self._findings = findings
        self._identities = {silo.name: silo.identity for silo in agreement.silos}
        self._requests: set[bytes] = set()
        self._challenges: set[bytes] = set()

    def genesis(self, entry: LogGenesis) -> bool:
        """Whether the evidence in leaf 0 vouches for the log key; raises `DivergenceError` if it speaks against it.

        False, and noted, if it could not be checked.
        """
        return self._appliance(0, entry, "genesis")

    def check(self, index: int, entry: Entry, history: History) -> None:
        """Appraise what an entry names, after `history` has taken it; raises `DivergenceError`."""
        if isinstance(entry, ApplianceStarted):
            self._requests.clear()
            self._challenges.clear()
            self._appliance(index, entry, "boot")
        elif isinstance(entry, KeyRotated):
            self._appliance(index, entry, "rotation")
        elif isinstance(entry, LogRecovered):
            self._appliance(index, entry, "recovery")
        elif isinstance(entry, SiloAdmitted):
            self._admitted(index, entry, history)
        elif isinstance(entry, SiloRefused):
            self._refused(index, entry, history)
        elif isinstance(entry, LogGenesis | LogSuperseded):
            self._seam(index, entry)

    def _seam(self, index: int, entry: LogGenesis | LogSuperseded) -> None:
        # 6
        def objects(digest: bytes, what: str) -> bytes | None:
            return self._objects.get(digest, what, entry=index, kind=entry.KIND)

        try:
            if isinstance(entry, LogSuperseded):
                check_ended(entry, self._agreement, objects)
            elif entry.predecessor is not None:
                check_begun(entry.predecessor, self._agreement, objects)
        except ProtocolError as error:
            raise DivergenceError(index, entry.KIND, printable(str(error))) from error

    def _appliance(
        self, index: int, entry: LogGenesis | ApplianceStarted | KeyRotated | LogRecovered, purpose: str
    ) -> bool:
        data = self._objects.get(entry.evidence, "the appliance's evidence", entry=index, kind=entry.KIND)
        if data is None:
            return False

        def report_data() -> bytes:
            return entry.keys.unattended_report_data(
                purpose=purpose,
                origin=self._agreement.log.origin,
                agreement=self._agreement.digest,
                boot_id=entry.boot_id,
            )

        def appraise() -> object:
            return appraise_appliance(data, self._agreement, report_data(), entry.time)

        if self._appraise(index, entry, entry.time, appraise) is None:
            return False
        if self._doubts is not None:
            self._doubts.appliance(index, entry, data, report_data())
        return True

    def _admitted(self, index: int, entry: SiloAdmitted, history: History) -> None:
        enrol = self._request(index, entry, history)
        if enrol is None:
            return
        # 4
        if enrol.agreement != self._agreement.digest:
            raise DivergenceError(index, entry.KIND, "request: expected one for this agreement, found another's")
        terms = self._agreement.silo(entry.silo)
        if enrol.keys.identity != terms.identity.raw:
            raise DivergenceError(index, entry.KIND, "request: expected the agreement's identity key, found another")
        if not _has_usable_keys(enrol):
            raise DivergenceError(index, entry.KIND, "request: expected keys that can be used, found others")
        tee = self._appraise(index, entry, entry.time, lambda: appraise_silo(enrol, terms, entry.time))
        if tee is not None and tee != entry.tee:
            raise DivergenceError(index, entry.KIND, f"tee: expected {tee}, as in the evidence, found {entry.tee}")
        if tee is not None and self._doubts is not None:
            self._doubts.silo(index, entry, enrol)

    def _refused(self, index: int, entry: SiloRefused, history: History) -> None:
        enrol = self._request(index, entry, history)
        if enrol is None:
            return
        # 5
        terms = self._agreement.silo(entry.silo)
        reasons: dict[str, Callable[[], bool]] = {
            RefusalCode.AGREEMENT_MISMATCH: lambda: enrol.agreement != self._agreement.digest,
            RefusalCode.IDENTITY_SIGNATURE: lambda: enrol.keys.identity != terms.identity.raw,
            RefusalCode.MALFORMED: lambda: not _has_usable_keys(enrol),
        }
        reasons |= dict.fromkeys(_EVIDENCE_CODES, lambda: self._is_refused(index, entry, enrol, terms))
        if entry.code not in reasons:
            raise DivergenceError(index, entry.KIND, f"code: {entry.code} is no reason to refuse an enrolment for")
        if not reasons[entry.code]():
            raise DivergenceError(index, entry.KIND, f"code: expected a true reason, found {entry.code}, which is not")

    def _is_refused(self, index: int, entry: SiloRefused, enrol: Enrol, terms: SiloTerms) -> bool:
        _require_time(index, entry, entry.time)
        self.appraised += enrol.evidence is not None
        try:
            appraise_silo(enrol, terms, entry.time)
        except (RefusedError, ValueError):
            return True
        return False

    def _request(self, index: int, entry: SiloAdmitted | SiloRefused, history: History) -> Enrol | None:
        # 1
        signed = self._objects.get(entry.request, "the enrolment request", entry=index, kind=entry.KIND)
        if signed is None:
            return None
        try:
            enrol = parse_enrolment(signed, self._identities)
        except (MalformedError, SignatureError) as error:
            raise DivergenceError(index, entry.KIND, f"request: {printable(str(error))}") from error
        except KeyError as error:
            raise DivergenceError(index, entry.KIND, "request: by a silo that the agreement does not name") from error
        if enrol.silo != entry.silo:
            raise DivergenceError(
                index, entry.KIND, f"request: expected one by {entry.silo}, found one by {enrol.silo}"
            )
        # 2
        started = history.started
        if started is None or enrol.boot_id != started.boot_id:
            raise DivergenceError(index, entry.KIND, "request: expected one for this boot, found another's")
        if enrol.appliance != started.keys.signing:
            raise DivergenceError(
                index, entry.KIND, "request: expected one for this boot's signing key, found another's"
            )
        # 3
        if entry.request in self._requests:
            raise DivergenceError(index, entry.KIND, "request: expected a new one, found one judged before")
        if enrol.challenge in self._challenges:
            raise DivergenceError(index, entry.KIND, "challenge: expected a new one, found one used before")
        self._requests.add(entry.request)
        self._challenges.add(enrol.challenge)
        return enrol

    def _appraise(self, index: int, entry: Entry, time: int, appraise: Callable[[], object]) -> object | None:
        """The verdict, or None, and noted, if the evidence lacks what a check needs."""
        _require_time(index, entry, time)
        try:
            verdict = appraise()
        except RefusedError as error:
            refusal = error.refusal
            problem = f"evidence: expected {refusal.expected}, found {printable(refusal.found)} ({refusal.code})"
            if refusal.code is RefusalCode.EVIDENCE_UNCHECKABLE:
                self._findings.uncheckable(Line.EVIDENCE, problem, entry=index, kind=entry.KIND)
                return None
            raise DivergenceError(index, entry.KIND, problem) from error
        except ValueError as error:  # Keys that `report_data` can't commit to.
            raise DivergenceError(index, entry.KIND, f"evidence: {error}") from error
        if verdict is not Tee.NONE:
            self.appraised += 1
        return verdict


def _require_time(index: int, entry: Entry, time: int) -> None:
    if time > LATEST_TIME:
        raise DivergenceError(index, entry.KIND, f"time: expected at most {LATEST_TIME}, found {time}")


def _has_usable_keys(enrol: Enrol) -> bool:
    try:
        enrol.keys.sealing_key.seal(b"", "strongroom/probe/v1")
        check_credential_key(enrol.keys.credential)
    except MalformedError:
        return False
    return True
