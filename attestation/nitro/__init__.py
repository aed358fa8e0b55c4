"""AWS Nitro Enclaves: parse (`cose`, `document`), authenticate, appraise, each the next one's floor."""

__all__: list[str] = []
