"""Further witnesses through both processes' real code: a request goes to the courier, and to no silo of that name."""

from audit.merkle import EMPTY_ROOT, TreeHead
from audit.note import Checkpoint
from audit.witnessing.request import AddCheckpoint
from protocol.keys import SigningKey
from protocol.session import Consistency, CosignRequest, Join


def test_a_request_to_a_witness_reaches_its_courier_and_no_silo(house: object) -> None:
    talk = house.talk("silo-1")
    join = ("silo-1", Join(head=0, pending=None).encode())
    house.eventually(lambda: join in house.core.witnessed_notes)
    checkpoint = Checkpoint.sign("simulated.example/log", TreeHead(size=0, root=EMPTY_ROOT), SigningKey(bytes(32)))
    request = CosignRequest(
        checkpoint=checkpoint.encode().decode(), consistency=Consistency(size=0, hashes=())
    ).encode()
    house.outbox.ask("silo-1", request)
    house.eventually(lambda: house.posted)
    assert AddCheckpoint.parse(house.posted[0]).checkpoint == checkpoint
    # The witness answered 409: the enclave hears where it stands.
    house.eventually(lambda: house.core.witnessed_notes[-1] == ("silo-1", Join(head=7, pending=None).encode()))
    house.outbox.ask("nobody", request)
    house.outbox.send("silo-1", b"for the silo")
    assert talk.hear().message == b"for the silo"
    assert len(house.posted) == 1


def test_another_boot_of_the_enclave_is_told_what_its_witnesses_know(house: object) -> None:
    house.eventually(lambda: house.core.witnessed_notes)
    former = house.core
    house.stop_enclave()
    house.boot()
    house.eventually(lambda: house.core.witnessed_notes)
    assert house.core is not former
    assert house.core.witnessed_notes[0] == ("silo-1", Join(head=0, pending=None).encode())
