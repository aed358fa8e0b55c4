"""The roots of the simulated hierarchy. Everything that they vouch for is marked as simulated."""

from functools import cache
from importlib.resources import files

from cryptography import x509

from attestation.snp.flags import SigningKey
from attestation.snp.product import Product
from attestation.snp.roots import Chain, RootSet


@cache
def simulated_roots() -> RootSet:
    """The simulated ARK and ASK; a set of their own, which AMD's roots never join."""
    directory = files("attestation.simulated").joinpath("hierarchy")
    ark, ask = (
        x509.load_pem_x509_certificate(directory.joinpath(name).read_bytes()) for name in ("ark.pem", "ask.pem")
    )
    chain = Chain(product=Product.GENOA, kind=SigningKey.VCEK, ark=ark, intermediate=ask)
    return RootSet(simulated=True, chains=(chain,))
