"""Which family reads which kind of evidence. Which roots may vouch follows from the kind, and never from the peer."""

from collections.abc import Mapping
from typing import Final

from attestation.dcap.family import DcapFamily
from attestation.dcap.roots import intel_root
from attestation.family import Family
from attestation.nitro.family import NitroFamily
from attestation.nitro.roots import aws_root
from attestation.simulated.roots import simulated_roots
from attestation.snp.family import SnpFamily
from attestation.snp.roots import vendor_roots
from attestation.tee import Tee
from attestation.token.confidential_space.family import ConfidentialSpaceFamily
from attestation.token.confidential_space.roots import google_root
from attestation.token.maa.family import MaaFamily

FAMILIES: Final[Mapping[Tee, Family]] = {
    Tee.SEV_SNP: SnpFamily(vendor_roots),
    Tee.TDX: DcapFamily(Tee.TDX, intel_root),
    Tee.SGX: DcapFamily(Tee.SGX, intel_root),
    Tee.NITRO: NitroFamily(aws_root),
    Tee.CONFIDENTIAL_SPACE: ConfidentialSpaceFamily(google_root),
    Tee.AZURE_MAA: MaaFamily(),
    Tee.SIMULATED: SnpFamily(simulated_roots),
}
