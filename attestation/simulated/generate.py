"""Makes the files of `hierarchy/` afresh: `python -m attestation.simulated.generate DIRECTORY`.

Run once by a maintainer; whoever runs it again changes the simulated roots, so that older simulated evidence no
longer verifies. The keys are written unencrypted on purpose: they protect nothing.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attestation.simulated.authority import issue_endorsement, issue_intermediate, issue_root
from attestation.simulated.chip import SIMULATED_CHIP_ID, SIMULATED_TCB
from attestation.snp.flags import SigningKey
from attestation.snp.signatures import RSA_BITS

NOT_BEFORE = datetime(1970, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)


def generate(directory: Path) -> None:
    """Write keys and certificates of a new simulated ARK, ASK and VCEK into an existing directory."""
    ark_key, ask_key = (rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS) for _ in range(2))
    vcek_key = ec.generate_private_key(ec.SECP384R1())
    ark = issue_root("ARK-Simulated", ark_key, not_before=NOT_BEFORE, not_after=NOT_AFTER)
    ask = issue_intermediate("SEV-Simulated", ask_key, ark, not_before=NOT_BEFORE, not_after=NOT_AFTER)
    vcek = issue_endorsement(
        SigningKey.VCEK,
        vcek_key.public_key(),
        ask,
        tcb=SIMULATED_TCB,
        identity=SIMULATED_CHIP_ID,
        not_before=NOT_BEFORE,
        not_after=NOT_AFTER,
    )
    for name, certificate in (("ark", ark.certificate), ("ask", ask.certificate), ("vcek", vcek)):
        (directory / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    for name, key in (("ark", ark_key), ("ask", ask_key), ("vcek", vcek_key)):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / f"{name}_key.pem").write_bytes(pem)


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
