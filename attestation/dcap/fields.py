"""Fixed layouts: fields one after another, little-endian, read once each and to the last byte."""

from attestation.errors import EvidenceMalformed


class FieldReader:
    """Takes one field after another from bytes; raises `EvidenceMalformed` naming the field that does not fit."""

    def __init__(self, data: bytes, whole: str) -> None:
        self._data = data
        self._whole = whole
        self._offset = 0

    def take(self, size: int, field: str) -> bytes:
        """The next `size` bytes."""
        end = self._offset + size
        if end > len(self._data):
            raise EvidenceMalformed(
                field, expected=f"{size} bytes", found=f"{len(self._data) - self._offset} left of the {self._whole}"
            )
        value = self._data[self._offset : end]
        self._offset = end
        return value

    def integer(self, size: int, field: str) -> int:
        """The next `size` bytes as an unsigned integer."""
        return int.from_bytes(self.take(size, field), "little")

    def zero(self, size: int, field: str) -> None:
        """The next `size` bytes, which are reserved."""
        value = self.take(size, field)
        if any(value):
            raise EvidenceMalformed(f"reserved bytes of {field}", expected="zero", found=value.hex()[:64])

    def rest(self) -> bytes:
        """Whatever follows."""
        return self.take(len(self._data) - self._offset, self._whole)

    def end(self) -> None:
        """Nothing follows."""
        left = len(self._data) - self._offset
        if left:
            raise EvidenceMalformed(self._whole, expected="nothing behind its last field", found=f"{left} bytes more")
