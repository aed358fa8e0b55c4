"""A simulated SEV-SNP: AMD's key hierarchy and firmware, imitated with keys that everybody has. Protects nothing.

Its reports go through the same parse, authenticate and appraise as real ones; only the roots differ, and those are
chosen by reference values that say `simulated` in so many words. The private keys lie in `hierarchy/`, in the clear, so
that nobody can mistake them for secrets.
"""

__all__: list[str] = []
