"""Microsoft Azure Attestation: tokens about SEV-SNP and TDX machines, SGX enclaves, and Azure's confidential VMs."""

__all__: list[str] = []
