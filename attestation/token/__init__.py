"""Tokens of attestation services: signed JSON (JWT) by which a cloud provider says that it verified hardware.

What a token proves rests on the service that issued it, and every verdict says so. `confidential_space` is Google's,
`maa` is Microsoft's; what they share stands here: `jws`, `jwks`, `claim_set`, `lifetime`, `nonce`.
"""

__all__: list[str] = []
