"""Evidence again from its bytes: whatever the enclave believed when it wrote an entry, the auditor must believe too.

The reference values and identity keys are those of the auditor's own agreement, `report_data` is computed here, and
`now` is the entry's time, as the collateral that vouched then may have expired since. Called by the audit for each
entry once the transition table has taken it.

1. the object that the entry names is there, and is a request signed by the silo that the entry names
2. an admission's request is for this agreement, this boot and its signing key, under the agreement's identity key
3. no request and no challenge is used twice in a boot (and a boot's requests are good for no other)
4. the evidence is accepted, by the TEE that the entry names
5. a refusal's reason is true, as far as request and agreement can tell
"""

from collections.abc import Callable

from attestation import Tee
from audit.entries import ApplianceStarted, Entry, LogGenesis, SiloAdmitted, SiloRefused
from audit.findings import Findings
from audit.named_objects import NamedObjects
from audit.replay import DivergenceError, History
from audit.report import Line
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.appraisal import appraise_appliance, appraise_silo
from protocol.credentials import check_credential_key
from protocol.enrolment import Enrol, parse_enrolment
from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError

LATEST_TIME = 253_402_300_799  # The end of the year 9999: evidence can't be appraised at later dates.
_EVIDENCE_CODES = frozenset(
    {
        RefusalCode.EVIDENCE_MALFORMED,
        RefusalCode.EVIDENCE_NOT_AUTHENTIC,
        RefusalCode.EVIDENCE_REFUSED,
        RefusalCode.EVIDENCE_UNCHECKABLE,
    }
)
# What a request is refused for once its challenge was taken: the challenge is used up then.
_AFTER_CHALLENGE = _EVIDENCE_CODES | {RefusalCode.MALFORMED}


class EvidenceAgain:
    """Appraises what entries name. Its memory is one boot's requests."""

    def __init__(self, *, agreement: Agreement, objects: NamedObjects, findings: Findings) -> None:
        self.appraised = 0
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
        elif isinstance(entry, SiloAdmitted):
            self._admitted(index, entry, history)
        elif isinstance(entry, SiloRefused):
            self._refused(index, entry, history)

    def _appliance(self, index: int, entry: LogGenesis | ApplianceStarted, purpose: str) -> bool:
        data = self._objects.get(entry.evidence, "the appliance's evidence", entry=index, kind=entry.KIND)
        if data is None:
            return False

        def appraise() -> object:
            report_data = entry.keys.unattended_report_data(
                purpose=purpose,
                origin=self._agreement.log.origin,
                agreement=self._agreement.digest,
                boot_id=entry.boot_id,
            )
            return appraise_appliance(data, self._agreement, report_data, entry.time)

        return self._appraise(index, entry, entry.time, appraise) is not None

    def _admitted(self, index: int, entry: SiloAdmitted, history: History) -> None:
        enrol = self._request(index, entry)
        if enrol is None:
            return
        # 2
        for what, holds in self._for_this_boot(enrol, history).items():
            if not holds:
                raise DivergenceError(index, entry.KIND, f"request: expected one for this {what}, found another's")
        # 3
        if entry.request in self._requests:
            raise DivergenceError(index, entry.KIND, "request: expected a new one, found one admitted before")
        if enrol.challenge in self._challenges:
            raise DivergenceError(index, entry.KIND, "challenge: expected a new one, found one used before")
        self._requests.add(entry.request)
        self._challenges.add(enrol.challenge)
        # 4
        terms = self._agreement.silo(entry.silo)
        tee = self._appraise(index, entry, entry.time, lambda: appraise_silo(enrol, terms, entry.time))
        if tee is not None and tee != entry.tee:
            raise DivergenceError(index, entry.KIND, f"tee: expected {tee}, as in the evidence, found {entry.tee}")

    def _refused(self, index: int, entry: SiloRefused, history: History) -> None:
        enrol = self._request(index, entry)
        if enrol is None:
            return
        # 5
        if entry.code in _AFTER_CHALLENGE:
            self._challenges.add(enrol.challenge)
        bound = self._for_this_boot(enrol, history)
        if entry.code in _EVIDENCE_CODES:
            self._require_refusal(index, entry, enrol)
            return
        true = {
            RefusalCode.AGREEMENT_MISMATCH: not bound["agreement"],
            RefusalCode.WRONG_BOOT: not (bound["boot"] and bound["signing key"]),
            RefusalCode.IDENTITY_SIGNATURE: not bound["identity key"],
            RefusalCode.MALFORMED: not _has_usable_keys(enrol),
            RefusalCode.STALE_NONCE: True,  # Only the enclave knows which challenges it gave out, and when.
        }
        if entry.code not in true:
            raise DivergenceError(index, entry.KIND, f"code: {entry.code} is no reason to refuse an enrolment for")
        if not true[RefusalCode(entry.code)]:
            raise DivergenceError(index, entry.KIND, f"code: expected a true reason, found {entry.code}, which is not")

    def _require_refusal(self, index: int, entry: SiloRefused, enrol: Enrol) -> None:
        terms = self._agreement.silo(entry.silo)
        _require_time(index, entry, entry.time)
        try:
            appraise_silo(enrol, terms, entry.time)
        except (RefusedError, ValueError):
            self.appraised += 1
            return
        problem = f"code: expected evidence that is refused, found {entry.code} and evidence that is accepted"
        raise DivergenceError(index, entry.KIND, problem)

    def _for_this_boot(self, enrol: Enrol, history: History) -> dict[str, bool]:
        started = history.started
        return {
            "agreement": enrol.agreement == self._agreement.digest,
            "boot": started is not None and enrol.boot_id == started.boot_id,
            "signing key": started is not None and enrol.appliance == started.keys.signing,
            "identity key": enrol.keys.identity == self._identities[enrol.silo].raw,
        }

    def _request(self, index: int, entry: SiloAdmitted | SiloRefused) -> Enrol | None:
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
