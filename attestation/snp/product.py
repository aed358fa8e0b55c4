"""AMD EPYC product lines: the unit in which AMD issues roots and lays out TCB versions.

Sources: AMD 57230 (VCEK and KDS interface) for the names, and for Genoa's root over Bergamo and Siena; the CPUID ranges
are those that the field's verifiers use (family 19h models 00-0F Milan, 10-1F and A0-AF Genoa with Bergamo and Siena,
family 1Ah models 00-11 Turin).
"""

import re
from enum import StrEnum

_STEPPING = re.compile(r"([A-Z][a-z]+)(-[A-Z][0-9])?")


class Product(StrEnum):
    """A product line, spelled as in AMD's certificates.

    Root seeds of Milan chips have been extracted in software (arXiv 2605.12990): whoever holds one can forge a report
    for any TCB, so that no minimum TCB helps. Reference values accept Milan only where they list it.
    """

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


_LINE_OF = {**{str(product): product for product in Product}, "Bergamo": Product.GENOA, "Siena": Product.GENOA}


def product_of_name(name: str) -> Product | None:
    """The product line of a certificate's productName ("Genoa", "Milan-B0"); None if it is not one of these."""
    match = _STEPPING.fullmatch(name)
    return _LINE_OF.get(match.group(1)) if match else None


def product_of_cpuid(family: int, model: int) -> Product | None:
    """The product line of a combined CPUID family and model; None if it is not one of these."""
    if family == 0x19 and model <= 0x0F:
        return Product.MILAN
    if family == 0x19 and (0x10 <= model <= 0x1F or 0xA0 <= model <= 0xAF):
        return Product.GENOA
    if family == 0x1A and model <= 0x11:
        return Product.TURIN
    return None
