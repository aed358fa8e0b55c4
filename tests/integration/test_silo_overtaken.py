"""Answers that the round has overtaken: older than the silo's head is now, and no sign of a rollback."""

from memory_federation import MemoryFederation, MemorySilo


def test_a_receipt_may_be_older_than_the_head() -> None:
    federation = MemoryFederation(replace={"rounds = 40": "rounds = 3"})
    federation.enrol_all()
    silo, late = federation.silos["silo-1"], []
    upload = federation.upload

    def answered_late(sender: MemorySilo) -> None:
        if sender is silo and not late:
            pending = silo.machine.state.pending
            late.append((pending, federation.enclave.complete(silo.name, silo.machine.state.open_pending())))
        else:
            upload(sender)

    federation.upload = answered_late  # type: ignore[method-assign]
    federation.run(until=lambda: len(silo.models) == 2)
    update, answer = late[0]
    silo.machine.accepted(update, answer)
    assert any(name.endswith("update.accepted") for name in silo.machine.state.receipts())
    federation.run()
    assert all(each.finished and not each.errors for each in federation.silos.values())


def test_a_welcome_may_be_older_than_a_head_that_went_on_meanwhile() -> None:
    federation = MemoryFederation(replace={"rounds = 40": "rounds = 3"})
    federation.enrol_all()
    silo = federation.silos["silo-1"]
    federation.run(until=lambda: len(silo.models) == 1)
    welcome = federation.enclave.hello(silo.machine.hello())
    federation.run(until=lambda: len(silo.models) == 2)
    silo.machine.admitted(federation.enclave.enrol(silo.machine.welcome(welcome)))
    federation.run()
    assert all(each.finished and not each.errors for each in federation.silos.values())
