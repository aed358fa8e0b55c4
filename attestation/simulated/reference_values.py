"""Reference values that the simulated chip's reports meet, for demonstrations and tests."""

from attestation.simulated.chip import SIMULATED_POLICY, SIMULATED_PRODUCT, SIMULATED_TCB
from attestation.snp.flags import PlatformFlag, SigningKey
from attestation.snp.reference_values import ANY_CHIP, SnpReferenceValues
from attestation.tee import Tee
from attestation.terms import Covers, Revocation


def simulated_reference_values(*measurements: bytes) -> SnpReferenceValues:
    """Accept simulated guests with one of these measurements (48 bytes each), and nothing real.

    A simulated measurement is one over our own packages (`attestation.collect.measurement`): it covers the code, as far
    as anything simulated does.
    """
    return SnpReferenceValues(
        tee=Tee.SIMULATED,
        products=(SIMULATED_PRODUCT,),
        measurements=measurements,
        covers=Covers.CODE,
        revocation=Revocation.MINIMUM_TCB,
        minimum_tcb=(SIMULATED_TCB,),
        provisional_firmware=False,
        policies=(SIMULATED_POLICY,),
        platform_required=(PlatformFlag.ALIAS_CHECK_COMPLETE,),
        mitigations_required=0,
        vmpl=0,
        signing_keys=(SigningKey.VCEK,),
        csp_ids=(),
        chip_ids=ANY_CHIP,
        host_data=bytes(32),
        id_block=None,
    )
