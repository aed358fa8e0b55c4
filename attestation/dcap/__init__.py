"""Intel TDX and SGX: quotes with DCAP collateral. Parse, authenticate, appraise, each the next one's floor.

Everything is verified twice, by two pieces of code that share none: ours, and the library `dcap-qvl` behind
`attestation.dcap.library`. What either refuses is refused.
"""

__all__: list[str] = []
