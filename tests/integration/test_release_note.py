"""What is announced are the votes that the enclave verified, whatever the store says about them."""

from memory_federation import MemoryFederation, signing_key

from audit.agreed import cosigner_of
from audit.note import Checkpoint
from protocol.session import Announcement, CosignRequest, parse_to_silo


def test_a_cosignature_planted_in_the_store_is_not_announced() -> None:
    federation = MemoryFederation(replace={"rounds = 40": "rounds = 2"})
    federation.enrol_all()
    federation.run(until=lambda: "round.opened" in federation.kinds())
    requests = [parse_to_silo(message) for _, message in federation.outbox]
    (request,) = {each.checkpoint for each in requests if isinstance(each, CosignRequest)}
    checkpoint = Checkpoint.parse(request.encode())
    # Another entry follows, so that the note is read from the store again, where somebody has planted a line.
    federation.enrol(federation.silos["silo-3"])
    name = cosigner_of(federation.agreement, federation.agreement.silo("silo-0")).name
    planted = checkpoint.cosign(name, signing_key("mallory"), time=5)
    federation.store.write(f"log/checkpoints/{checkpoint.size}.note", checkpoint.with_signatures([planted]).encode())
    announced: list[Announcement] = []
    deliver = federation.deliver

    def watched(silo: str, message: bytes) -> None:
        parsed = parse_to_silo(message)
        if isinstance(parsed, Announcement):
            announced.append(parsed)
        deliver(silo, message)

    federation.deliver = watched  # type: ignore[method-assign]
    federation.run(until=lambda: "round.published" in federation.kinds())
    assert planted.encode() not in announced[0].checkpoint
    assert not any(silo.errors for silo in federation.silos.values())
