"""Measurements, each a module to be run: `python -m benchmarks.NAME`. No part of the package."""

__all__: list[str] = []
