"""Roots of trust: AMD's root keys (ARK), pinned by digest, and the intermediates (ASK, ASVK) below them.

They ship with this package and never come from a peer. A set of roots is either the vendor's or the simulated one;
there is no way to join two. Sources: `amd/SOURCES.md`.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceUncheckable
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product

ARK_SHA256: Final = {
    Product.MILAN: "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    Product.GENOA: "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    Product.TURIN: "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
}
"""SHA-256 of the DER form of AMD's root certificates."""
_INTERMEDIATE = {SigningKey.VCEK: "ask", SigningKey.VLEK: "asvk"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The two upper certificates over one kind of signing key of one product line: ARK, then ASK or ASVK."""

    product: Product
    kind: SigningKey
    ark: x509.Certificate
    intermediate: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class RootSet:
    """All chains that may vouch for a report. `simulated` marks everything that they vouch for."""

    simulated: bool
    chains: tuple[Chain, ...]


@cache
def vendor_roots() -> RootSet:
    """AMD's roots. Raises `EvidenceUncheckable` if an installed root is not the pinned one."""
    chains = []
    for product in Product:
        ark = _load(f"ark_{product.lower()}.pem")
        digest = sha256(ark.public_bytes(Encoding.DER)).hexdigest()
        if digest != ARK_SHA256[product]:
            raise EvidenceUncheckable(f"ARK of {product}", expected=f"sha256 {ARK_SHA256[product]}", found=digest)
        for kind, name in _INTERMEDIATE.items():
            intermediate = _load(f"{name}_{product.lower()}.pem")
            chains.append(Chain(product=product, kind=kind, ark=ark, intermediate=intermediate))
    return RootSet(simulated=False, chains=tuple(chains))


def _load(name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files("attestation.snp").joinpath("amd", name).read_bytes())
