"""What vouches for a log key: evidence in which the agreed code commits to it, for this agreement and this log.

The evidence binds the agreement's digest, the log's origin, the boot and all keys of the appliance, the log key among
them. It stands in a log as the object that `log.genesis` and every `appliance.started` name, so that also a log key
that came later is vouched for, and a silo keeps that of the boot at which it pinned the key. Pure; trusts the reader's
agreement and the roots of trust that ship with `attestation`.

`time` is bound by nothing: it is the moment at which the evidence has to hold, for the certificates' sake.
"""

from dataclasses import dataclass

from attestation.report_data import BOOT, ENROLMENT, GENESIS
from audit.entries import ApplianceStarted, LogGenesis
from audit.evidence import LATEST_TIME
from protocol.agreement import Agreement
from protocol.appraisal import appraise_appliance
from protocol.enrolment import ApplianceKeys, Welcome
from protocol.errors import ProtocolError, RefusedError
from protocol.keys import VerifyingKey
from protocol.record import Bytes, Count, Id32, Name, Record


class NotVouchedError(ProtocolError):
    """The evidence does not vouch for the key, or could not be checked; one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher(Record, kind="log-key", limit_bytes=2**21):
    """Evidence (encoded `Evidence`) over the keys of one boot. `nonce` is null where no verifier chose one."""

    purpose: Name
    boot_id: Id32
    keys: ApplianceKeys
    nonce: Id32 | None
    time: Count
    evidence: Bytes

    @classmethod
    def of_entry(cls, entry: LogGenesis | ApplianceStarted, evidence: bytes) -> "Voucher":
        """As a log holds it; `evidence` is the object that the entry names."""
        return cls(
            purpose=GENESIS if isinstance(entry, LogGenesis) else BOOT,
            boot_id=entry.boot_id,
            keys=entry.keys,
            nonce=None,
            time=entry.time,
            evidence=evidence,
        )

    @classmethod
    def of_welcome(cls, welcome: Welcome, *, time: int) -> "Voucher":
        """As a silo was shown it, and appraised it at `time` (unix seconds)."""
        return cls(
            purpose=ENROLMENT,
            boot_id=welcome.boot_id,
            keys=welcome.keys,
            nonce=welcome.nonce,
            time=time,
            evidence=welcome.evidence,
        )

    @property
    def log_key(self) -> VerifyingKey:
        """The key that it vouches for, if it does."""
        return self.keys.log_key

    def appraise(self, agreement: Agreement) -> VerifyingKey:
        """The log key, once the evidence vouches for it under this agreement; raises `NotVouchedError`."""
        if self.purpose not in ((GENESIS, BOOT) if self.nonce is None else (ENROLMENT,)):
            raise NotVouchedError(f"voucher: expected evidence for a genesis, boot or enrolment, found {self.purpose}")
        if self.time > LATEST_TIME:
            raise NotVouchedError(f"voucher: expected a time of at most {LATEST_TIME}, found {self.time}")
        try:
            appraise_appliance(self.evidence, agreement, self._report_data(agreement), self.time)
        except RefusedError as error:
            refusal = error.refusal
            raise NotVouchedError(
                f"voucher: expected {refusal.expected}, found {refusal.found} ({refusal.code})"
            ) from error
        except ValueError as error:  # Keys that `report_data` can't commit to.
            raise NotVouchedError(f"voucher: {error}") from error
        return self.log_key

    def _report_data(self, agreement: Agreement) -> bytes:
        origin, digest = agreement.log.origin, agreement.digest
        if self.nonce is None:
            return self.keys.unattended_report_data(
                purpose=self.purpose, origin=origin, agreement=digest, boot_id=self.boot_id
            )
        return self.keys.report_data(
            purpose=self.purpose, origin=origin, agreement=digest, boot_id=self.boot_id, nonce=self.nonce
        )
