"""Which family reads which kind of evidence. Which roots may vouch follows from the kind, and never from the peer."""

from collections.abc import Mapping
from typing import Final

from attestation.family import Family
from attestation.nitro.family import NitroFamily
from attestation.nitro.roots import aws_root
from attestation.simulated.roots import simulated_roots
from attestation.snp.family import SnpFamily
from attestation.snp.roots import vendor_roots
from attestation.tee import Tee

FAMILIES: Final[Mapping[Tee, Family]] = {
    Tee.SEV_SNP: SnpFamily(vendor_roots),
    Tee.NITRO: NitroFamily(aws_root),
    Tee.SIMULATED: SnpFamily(simulated_roots),
}
