"""Grants for a new log key: those that count, and everything that must not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from audit_history import Boot, Recorder, agreement_of, identity, token

from audit.entries import LogRecovered
from audit.grants import GrantError, Recovered, newest_held, require_newest, verify_grants
from protocol.enrolment import ENROL_LABEL
from protocol.recovery import GRANT_LABEL, RecoveryGrant, RecoveryGrants, sign_grant
from protocol.signed import sign_message

AGREEMENT = agreement_of()
OWNERS = ("silo-0", "silo-2", "silo-3")
MODEL = token("model 1")


def entry_for(grants: bytes = b"", model: bytes = MODEL) -> LogRecovered:
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    return replace(recorder.recovered(Boot("B", log="log 2"), root=token("root"), grants=grants), model=model)


ENTRY = entry_for()


def grant_of(silo: str, entry: LogRecovered = ENTRY, models: tuple[bytes, ...] = ()) -> RecoveryGrant:
    return Recovered.by(entry).grant(AGREEMENT, silo, models)


def signed(silo: str, /, **changes: object) -> bytes:
    return sign_grant(identity(silo), replace(grant_of(silo), **changes))  # type: ignore[arg-type]


def grants(*signed_grants: bytes) -> bytes:
    return RecoveryGrants(grants=signed_grants).encode()


def test_the_quorums_grants_authorise() -> None:
    assert AGREEMENT.log.cosigners == len({AGREEMENT.silo(silo).owner for silo in OWNERS})
    verify_grants(AGREEMENT, ENTRY, grants(*map(signed, OWNERS)))


def test_an_owners_second_silo_is_no_second_vote() -> None:
    owners = [silo.owner for silo in AGREEMENT.silos]
    twins = [silo.name for silo in AGREEMENT.silos if owners.count(silo.owner) > 1]
    others = [silo for silo in OWNERS if AGREEMENT.silo(silo).owner != AGREEMENT.silo(twins[0]).owner]
    assert len(twins) > 1
    with pytest.raises(GrantError, match=f"expected those of {AGREEMENT.log.cosigners} owners, found"):
        verify_grants(AGREEMENT, ENTRY, grants(*map(signed, (*twins, others[0]))))


def test_too_few() -> None:
    with pytest.raises(GrantError, match="expected those of 3 owners, found nobody"):
        verify_grants(AGREEMENT, ENTRY, grants())
    with pytest.raises(GrantError, match="expected those of 3 owners, found"):
        verify_grants(AGREEMENT, ENTRY, grants(*map(signed, OWNERS[:2])))


def test_a_silo_twice() -> None:
    with pytest.raises(GrantError, match="expected one of each silo, found two of silo-0"):
        verify_grants(AGREEMENT, ENTRY, grants(*map(signed, (*OWNERS, "silo-0"))))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agreement": bytes(32)}, "agreement: expected"),
        ({"origin": "simulated.log.example/other"}, "log: expected"),
        ({"boot_id": token("another boot")}, "boot: expected"),
        ({"keys": token("other keys")}, "digest of the new keys: expected"),
        ({"previous": token("another log key")}, "key that is lost: expected"),
        ({"size": ENTRY.size - 1}, "size: expected 2, found 1"),
        ({"size": ENTRY.size + 1}, "size: expected 2, found 3"),
        ({"root": token("a fork")}, "root: expected"),
    ],
)
def test_a_grant_for_something_else(changes: dict[str, object], said: str) -> None:
    with pytest.raises(GrantError, match=f"grant of silo-3: {said}"):
        verify_grants(AGREEMENT, ENTRY, grants(*map(signed, OWNERS[:2]), signed("silo-3", **changes)))


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (lambda: sign_grant(identity("silo-0"), grant_of("silo-3")), "the signature is not by"),
        (lambda: sign_message(identity("silo-3"), ENROL_LABEL, grant_of("silo-3").encode()), "signature is not by"),
        (lambda: signed("silo-3", silo="nobody"), "unknown-silo"),
        (lambda: signed("silo-3")[:-1], "expected"),
        (lambda: bytes(64), "expected over 64 bytes"),
        (lambda: sign_message(identity("silo-3"), GRANT_LABEL, b'{"kind":"recovery-grant"}'), "recovery-grant"),
    ],
)
def test_a_forged_grant(forge: Callable[[], bytes], said: str) -> None:
    with pytest.raises(GrantError, match=said):
        verify_grants(AGREEMENT, ENTRY, grants(*map(signed, OWNERS[:2]), forge()))


@pytest.mark.parametrize("data", [b"", b"grants", b'{"grants":[],"kind":"recovery-grants","version":2}'])
def test_an_object_that_is_none(data: bytes) -> None:
    with pytest.raises(GrantError, match="^grants: "):
        verify_grants(AGREEMENT, ENTRY, data)


class TestTheModel:
    PUBLISHED = {AGREEMENT.model.initial: 0, MODEL: 1, token("model 2"): 2}  # noqa: RUF012

    def authorised(self, *held: tuple[bytes, ...]) -> bytes:
        pairs = zip(OWNERS, held, strict=True)
        return grants(*(sign_grant(identity(silo), grant_of(silo, models=models)) for silo, models in pairs))

    def test_the_newest_that_a_silo_holds(self) -> None:
        require_newest(AGREEMENT, ENTRY, self.authorised((MODEL,), (AGREEMENT.model.initial,), ()), self.PUBLISHED)

    def test_an_older_one_while_a_silo_holds_a_newer(self) -> None:
        with pytest.raises(GrantError, match="the newest that a silo which granted holds"):
            require_newest(AGREEMENT, ENTRY, self.authorised((MODEL,), (token("model 2"),), ()), self.PUBLISHED)

    def test_one_that_no_silo_holds(self) -> None:
        with pytest.raises(GrantError, match=f"expected sha256:{AGREEMENT.model.initial.hex()}"):
            require_newest(AGREEMENT, ENTRY, self.authorised((), (), ()), self.PUBLISHED)

    def test_what_was_never_published_counts_for_nothing(self) -> None:
        never = token("never published")
        assert newest_held(self.PUBLISHED, [never, MODEL], AGREEMENT.model.initial) == MODEL
        assert newest_held(self.PUBLISHED, [never], AGREEMENT.model.initial) == AGREEMENT.model.initial
        with pytest.raises(GrantError, match="^model: expected"):
            require_newest(AGREEMENT, replace(ENTRY, model=never), self.authorised((never,), (), ()), self.PUBLISHED)
