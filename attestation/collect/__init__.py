"""Collecting: what a party asks of the machine that it runs on. The one part of `attestation` with effects."""

__all__: list[str] = []
