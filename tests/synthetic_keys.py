"""RSA keys for tests, made once a name: they take a while."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa


@cache
def rsa_key(name: str, *, bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """The key of that name, in this process."""
    del name
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)
