"""The gateway changes a silo's sealed bytes while the enclave reads them: nothing of that is held against the silo."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from memory_federation import MemoryFederation, MemorySilo

from audit.entries import UpdateAccepted, UpdateRefused, parse_entry
from protocol.errors import ProtocolError, RefusalCode, RefusedError
from protocol.sealing import BlobHeader, ByteSource, MemoryBytes
from protocol.sealing.bytes_io import read
from protocol.sealing.geometry import encode_prelude, read_prelude

SILO = "silo-1"


class Spool:
    """A blob whose bytes are `first` for the first `reads` reads, and `then` after them."""

    def __init__(self, first: bytes, then: bytes, reads: int) -> None:
        self._first, self._then, self._left = MemoryBytes(first), MemoryBytes(then), reads

    def size(self) -> int:
        return (self._first if self._left > 0 else self._then).size()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._left -= 1
        (self._first if self._left >= 0 else self._then).read_into(offset, buffer)


def judged(change: Callable[[bytes], ByteSource]) -> tuple[list[object], bytes, ProtocolError | None]:
    """One silo's update, as `change` hands it to the enclave: what is logged of it, its upload id, the answer."""
    federation = MemoryFederation(replace={"rounds = 40": "rounds = 1"})
    federation.enrol_all()
    upload, errors, sent = federation.upload, [], []

    def altered(silo: MemorySilo) -> None:
        if silo.name != SILO:
            upload(silo)
            return
        pending, source = silo.machine.state.pending, silo.machine.state.open_pending()
        assert pending is not None
        sent.append(pending.upload_id)
        try:
            federation.enclave.complete(SILO, change(read(source, 0, source.size())))
        except ProtocolError as error:
            errors.append(error)

    federation.upload = altered  # type: ignore[method-assign]
    federation.run(until=lambda: federation.kinds().count("update.accepted") == 3 and bool(errors), deadline=False)
    entries = [parse_entry(data) for _, data in federation.history()]
    logged = [entry for entry in entries if isinstance(entry, UpdateAccepted | UpdateRefused) and entry.silo == SILO]
    return logged, sent[0], errors[0] if errors else None


def with_header(blob: bytes, **changes: object) -> bytes:
    """The blob under another header of the same length."""
    encoded, wrap = read_prelude(MemoryBytes(blob))
    header = replace(BlobHeader.parse(encoded), **changes)  # type: ignore[arg-type]
    prelude = encode_prelude(header.encode(), wrap)
    return prelude + blob[len(encode_prelude(encoded, wrap)) :]


HEADER_READS = 5  # Magic, two lengths, header, wrap: as `read_prelude` reads them.


def test_a_parent_that_only_the_first_look_showed_is_not_held_against_the_silo() -> None:
    logged, upload_id, error = judged(lambda blob: Spool(with_header(blob, parent=bytes(16)), blob, HEADER_READS))
    assert error is None
    assert [(type(entry), entry.upload_id, entry.parent) for entry in logged] == [(UpdateAccepted, upload_id, None)]


def test_an_upload_id_that_only_the_first_look_showed_is_not_logged() -> None:
    logged, _, error = judged(lambda blob: Spool(with_header(blob, upload_id=bytes(16)), blob, HEADER_READS))
    assert isinstance(error, RefusedError)
    assert logged == []


@pytest.mark.parametrize("segment", ["metadata", "chunk"])
def test_a_bit_flipped_under_a_signed_tag_is_not_held_against_the_silo(segment: str) -> None:
    def flip(blob: bytes) -> MemoryBytes:
        # From the end: the signature, the one chunk of five float32 with its tag, and before it the metadata's.
        place = len(blob) - 64 - 16 - 20 - (0 if segment == "chunk" else 16 + 4096)
        return MemoryBytes(blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :])

    logged, _, error = judged(flip)
    assert logged == []
    assert isinstance(error, RefusedError)
    assert error.refusal.code is RefusalCode.UPDATE_SIGNATURE


def test_a_file_cut_short_under_the_enclaves_hands_is_not_held_against_the_silo() -> None:
    """Cut once the signature was read, before the metadata is."""
    tags_and_signature = 2 + 1
    logged, _, error = judged(lambda blob: Spool(blob, blob[:2000], 2 * HEADER_READS + tags_and_signature))
    assert logged == []
    assert error is not None
