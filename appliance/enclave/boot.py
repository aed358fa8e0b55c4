"""One start of the enclave: a new boot id, new keys that live in memory only, and evidence for them.

Only the log key outlives a boot. Whoever appraised this boot's evidence knows all its public keys, and no other
boot can use them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from attestation import Evidence
from attestation.collect.platform import Platform
from attestation.report_data import ENROLMENT
from protocol.credentials import CertificateAuthority
from protocol.enrolment import ApplianceKeys
from protocol.keys import SEALING_SEED_BYTES, SealingKey, Secret, SigningKey


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Boot(Secret):
    """This boot's identity and private keys."""

    boot_id: bytes
    agreement: bytes
    origin: str
    log_key: SigningKey
    signing: SigningKey
    sealing: SealingKey
    ca: CertificateAuthority
    keys: ApplianceKeys
    platform: Platform

    @classmethod
    def begin(
        cls,
        *,
        agreement: bytes,
        origin: str,
        log_key: SigningKey,
        platform: Platform,
        random: Callable[[int], bytes],
        now: int,
    ) -> "Boot":
        """Make this boot's keys. `agreement`: the federation's digest; `now`: for the CA certificate's dates."""
        signing, sealing = SigningKey(random(32)), SealingKey(random(SEALING_SEED_BYTES))
        ca = CertificateAuthority.create(origin, now)
        return cls(
            boot_id=random(32),
            agreement=agreement,
            origin=origin,
            log_key=log_key,
            signing=signing,
            sealing=sealing,
            ca=ca,
            keys=ApplianceKeys(
                signing=signing.public.raw,
                log=log_key.public.raw,
                sealing=sealing.public.raw,
                ca=ca.public_spki_der,
            ),
            platform=platform,
        )

    def unattended_report_data(self, purpose: str) -> bytes:
        """The 64 bytes that evidence for the log commits to: of "genesis", "boot", "rotation" or "recovery"."""
        return self.keys.unattended_report_data(
            purpose=purpose, origin=self.origin, agreement=self.agreement, boot_id=self.boot_id
        )

    def unattended_evidence(self, purpose: str) -> Evidence:
        """Evidence for such a purpose, to be logged; raises `CollectError`."""
        return self.platform.evidence(self.unattended_report_data(purpose))

    def evidence_for(self, nonce: bytes, purpose: str = ENROLMENT) -> Evidence:
        """Evidence over a silo's 32-byte nonce, for its enrolment or a recovery; raises `CollectError`."""
        return self.platform.evidence(
            self.keys.report_data(
                purpose=purpose, origin=self.origin, agreement=self.agreement, boot_id=self.boot_id, nonce=nonce
            )
        )
