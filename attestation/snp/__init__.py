"""AMD SEV-SNP: parse (`report`, `certificates`), authenticate, appraise, each the next one's floor.

Real and simulated reports take the same way; the reference values' `tee` decides whose roots they need.
"""

__all__: list[str] = []
