"""Google Confidential Space: tokens of Google's service, under its PKI (x5c) or its published keys (OIDC)."""

__all__: list[str] = []
