"""What a TEE gives to the code inside it: evidence about that code, and a key that only that code can derive.

Composition roots choose one; everything else takes the Protocol. The simulated platform gives both and protects
neither: its keys ship in this package.
"""

import hmac
from typing import Final, Protocol

from attestation.encoding import labelled, labelled_digest
from attestation.evidence import Evidence
from attestation.simulated.chip import SIMULATED_POLICY, simulated_chip
from attestation.snp.reference_values import MEASUREMENT_BYTES
from attestation.tee import Tee

SEALING_KEY_BYTES: Final = 32
# Stands for the chip-unique secret that a real key derivation starts from. Everybody has it.
_SIMULATED_CHIP_SECRET = labelled_digest("strongroom/simulated-chip-secret/v1")


class Platform(Protocol):
    """A TEE, seen from inside."""

    @property
    def tee(self) -> Tee:
        """Which kind it is."""
        ...

    def evidence(self, report_data: bytes) -> Evidence:
        """Fresh evidence that commits to 64 bytes of `report_data`."""
        ...

    def sealing_key(self) -> bytes:
        """32 bytes that the same code gets again on the same machine, and other code does not."""
        ...


class SimulatedPlatform:
    """A TEE that protects nothing, for machines without one.

    Its evidence is a byte-exact SEV-SNP report under the simulated roots. Whoever reads this package can sign the same
    report and derive the same sealing key.
    """

    protects: Final = "nothing: simulated evidence can be forged, and what is sealed can be opened, by anybody"

    def __init__(self, measurement: bytes, *, policy: int = SIMULATED_POLICY, vmpl: int = 0) -> None:
        """`measurement`: 48 bytes, as `attestation.collect.measurement.measure` computes them."""
        if len(measurement) != MEASUREMENT_BYTES:
            raise ValueError(f"measurement: expected {MEASUREMENT_BYTES} bytes, found {len(measurement)}")
        self._measurement = measurement
        self._policy = policy
        self._vmpl = vmpl

    @property
    def tee(self) -> Tee:
        """Always `Tee.SIMULATED`."""
        return Tee.SIMULATED

    @property
    def measurement(self) -> bytes:
        """The 48 bytes that its reports carry."""
        return self._measurement

    def evidence(self, report_data: bytes) -> Evidence:
        """A signed report that commits to 64 bytes, with the simulated chip's certificate."""
        chip = simulated_chip()
        report = chip.report(
            report_data=report_data, measurement=self._measurement, policy=self._policy, vmpl=self._vmpl
        )
        return Evidence(tee=self.tee, report=chip.sign(report).encode(), endorsements=(chip.endorsement,))

    def sealing_key(self) -> bytes:
        """32 bytes derived from the simulated chip's secret with measurement, policy and TCB. Protects nothing."""
        policy = self._policy.to_bytes(8, "little")
        context = labelled(
            "strongroom/simulated-sealing-key/v1", self._measurement, policy, simulated_chip().tcb.encode()
        )
        return hmac.digest(_SIMULATED_CHIP_SECRET, context, "sha256")
