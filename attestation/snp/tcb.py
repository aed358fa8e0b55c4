"""TCB versions: the security version numbers of a chip's firmware, laid out by product line.

A TCB version is compared component by component, never as one integer: a chip with newer microcode and an older
boot loader is not newer. Source: AMD 56860, TCB_VERSION; AMD 57230 for the order in Turin.
"""

from dataclasses import dataclass

from attestation.errors import EvidenceMalformed
from attestation.snp.product import Product

TCB_BYTES = 8
_MILAN_AND_GENOA = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
_TURIN = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}
_LAYOUT = {Product.MILAN: _MILAN_AND_GENOA, Product.GENOA: _MILAN_AND_GENOA, Product.TURIN: _TURIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbVersion:
    """Security version numbers (0 to 255 each) of one product line's firmware. Only Turin has an `fmc`.

    Raises `ValueError` if a number is out of range, or if `fmc` is missing for Turin or given for another product.
    """

    product: Product
    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    def __post_init__(self) -> None:
        if (self.fmc is not None) is not ("fmc" in _LAYOUT[self.product]):
            raise ValueError(f"fmc: expected one for Turin and for Turin only, found {self.fmc} for {self.product}")
        for name, value in self.components().items():
            if type(value) is not int or not 0 <= value <= 255:
                raise ValueError(f"{name}: expected an integer from 0 to 255, found {value!r}")

    @classmethod
    def parse(cls, data: bytes, product: Product, field: str) -> "TcbVersion":
        """Read 8 bytes in the product's layout; raises `EvidenceMalformed` naming `field` if a reserved byte is set."""
        layout = _LAYOUT[product]
        if len(data) != TCB_BYTES:
            raise EvidenceMalformed(field, expected=f"{TCB_BYTES} bytes", found=str(len(data)))
        reserved = [i for i in range(TCB_BYTES) if i not in layout.values() and data[i]]
        if reserved:
            raise EvidenceMalformed(field, expected=f"reserved bytes of {product} to be zero", found=data.hex())
        return cls(product=product, **{name: data[index] for name, index in layout.items()})

    def encode(self) -> bytes:
        """The 8 bytes that `parse` reads."""
        data = bytearray(TCB_BYTES)
        for name, value in self.components().items():
            data[_LAYOUT[self.product][name]] = value
        return bytes(data)

    def components(self) -> dict[str, int]:
        """The security version numbers by name, in the layout's order."""
        return {name: getattr(self, name) for name in _LAYOUT[self.product]}

    def below(self, other: "TcbVersion") -> tuple[str, ...]:
        """The names of the components in which this version is lower than `other`; empty if it reaches it in all.

        Raises `ValueError` for versions of two product lines: their numbers mean different things.
        """
        if self.product is not other.product:
            raise ValueError(f"TCB of {self.product} compared with one of {other.product}")
        theirs = other.components()
        return tuple(name for name, value in self.components().items() if value < theirs[name])

    def __str__(self) -> str:
        return f"{self.product} " + " ".join(f"{name}={value}" for name, value in self.components().items())
