"""What an operator does to messages and bodies on their way to a silo, and the sentence in which the silo refuses.

The enclave is real and honest, the gateway is the operator's (`cheated_federation.py`). Each test starts a silo's
process as its user does, and cheats it in another way: it must train on nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from altered_announcements import (
    Change,
    announcing,
    before,
    cosigned_by_one_owner_twice,
    cosigned_by_strangers,
    cosigned_by_strangers_with_the_silos_key_ids,
    log_line,
    of_a_longer_log,
    published,
    signed_by,
    votes,
    with_a_made_up_outcome,
    with_terms,
    with_the_entry_of_round_3,
    with_the_outcome_of_round_3,
)
from blob_surgery import Anatomy
from cheated_federation import IN_DOUBT, SPOILED, VICTIM, Stage, cheated_federation, flipped, silo_refusing
from hostile_operator import Cheat

from audit.entries import RoundAbandoned, RoundPublished
from protocol.errors import RefusalCode
from protocol.layout import Layout
from protocol.session import CosignRequest, UploadAccepted, WantInitial, parse_to_silo
from protocol.wire import strongroom_pb2 as pb

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def played() -> Iterator[Stage]:
    with cheated_federation() as stage:
        yield stage


@pytest.fixture
def stage(played: Stage) -> Iterator[Stage]:
    yield played
    played.leave()


def test_left_alone_the_same_silo_trains_in_the_round(stage: Stage) -> None:
    """What every refusal below is held against."""
    stage.cheated(Cheat()).wait_for("round", round=4, attempt=2)


# Announcements

UNHEEDED = "; it was not acted upon: the appliance, or somebody before it, sends what nothing vouches for"
SIGNATURE = "signature does not verify under ed25519:"
ANNOUNCEMENTS: dict[str, tuple[Change, str]] = {
    "without the log's signature": (
        lambda stage, found: signed_by(found, *votes(found)),
        "the appliance's announcement: note: expected a signature by a known key, found none" + UNHEEDED,
    ),
    "of a longer log than was signed": (
        lambda stage, found: of_a_longer_log(found),
        "the appliance's announcement: " + SIGNATURE,
    ),
    "that nobody has cosigned": (
        lambda stage, found: signed_by(found, log_line(found)),
        "expected cosignatures of 3 owners, found nobody; missing: ",
    ),
    "cosigned by one owner too few": (
        lambda stage, found: signed_by(found, log_line(found), *votes(found)[:2]),
        "expected cosignatures of 3 owners, found alpenklinik, baltic-bank; missing: ",
    ),
    "cosigned by one owner twice": (
        cosigned_by_one_owner_twice,
        "expected cosignatures of 3 owners, found alpenklinik, baltic-bank; missing: ",
    ),
    "cosigned by strangers": (
        cosigned_by_strangers,
        "expected cosignatures of 3 owners, found nobody; missing: ",
    ),
    "cosigned by strangers under the silos' key ids": (
        cosigned_by_strangers_with_the_silos_key_ids,
        "the appliance's announcement: " + SIGNATURE,
    ),
    "with the cosignatures of an earlier one": (
        lambda stage, found: signed_by(found, log_line(found), *votes(before(stage, 3))),
        "the appliance's announcement: " + SIGNATURE,
    ),
    "whose entry the log does not hold": (
        lambda stage, found: with_terms(found, learning_rate=0.2),
        "the appliance's announcement: inclusion: expected the signed root ",
    ),
    "whose entry stands elsewhere in the log": (
        lambda stage, found: replace(found, opened=replace(found.opened, index=found.opened.index - 1)),
        "the appliance's announcement: inclusion: expected ",
    ),
    "whose entry opens no round": (
        published,
        "the appliance's announcement: expected a round.opened, log.closed or log.superseded entry, "
        "found round.published" + UNHEEDED,
    ),
    "meant for another silo": (
        lambda stage, found: stage.announced("silo-2")[-1],
        "wrong-model: expected model key for recipient silo-4, found silo-2; take the key that this announcement ",
    ),
    "with another silo's model key": (
        lambda stage, found: replace(found, model=stage.announced("silo-2")[-1].model),
        "wrong-model: expected model key for recipient silo-4, found silo-2; take the key that this announcement ",
    ),
    "with the former boot's model key": (
        lambda stage, found: replace(found, model=before(stage, 4).model),
        "the appliance's announcement: model key: the signature is not by ed25519:",
    ),
    "with the model's key for the control": (
        lambda stage, found: replace(found, control=found.model),
        "wrong-model: expected model key for kind control, found model; take the key that this announcement brought",
    ),
    "of another body than its key is for": (
        lambda stage, found: replace(found, model=replace(found.model, digest=bytes(32))),
        f"wrong-model: expected model key for body sha256:{'00' * 32}, found sha256:",
    ),
    "without the control that its entry names": (
        lambda stage, found: replace(found, control=None),
        "the appliance's announcement: expected the control that the entry names (scaffold), found none" + UNHEEDED,
    ),
}


@pytest.mark.parametrize("attack", ANNOUNCEMENTS)
def test_an_announcement(stage: Stage, attack: str) -> None:
    change, sentence = ANNOUNCEMENTS[attack]
    assert sentence in silo_refusing(stage.cheated(announcing(stage, change)), exit_code=3)


@pytest.mark.parametrize("round_number", [3, 4])
def test_an_announcement_repeated_to_a_silo_that_has_started_again(stage: Stage, round_number: int) -> None:
    """Of the round before, and of this round's first attempt, which another boot had opened."""
    repeated = announcing(stage, lambda stage, found: before(stage, round_number))
    line = silo_refusing(stage.cheated(repeated), exit_code=4)
    assert line.startswith("log-rolled-back: expected a log of at least the ")
    assert "; the appliance runs on an older copy of its store: restore the newest one" in line


def test_an_announcement_repeated_in_the_middle_of_the_next_round(stage: Stage) -> None:
    """The silo was waiting in round 4, its model trained. Started again by its user, it sends what it had sealed."""
    run = stage.repeated
    assert run.exit_code() == 3
    assert run.errors.splitlines()[-1] == (
        "wrong-round: expected attempt 1 of round 4, which was announced to this silo, or a later one, "
        "found attempt 1 of round 3; the appliance repeats an old announcement: do not train on it"
    )
    assert [event["round"] for event in run.events if event["event"] == "round"] == [1, 2, 2, 3, 4]
    assert [event["event"] for event in run.events][-2:] == ["round", "refused"], run.events[-3:]
    assert run.events[-1]["code"] == "wrong-round"


def test_an_announcement_of_the_former_boot_repeated_after_a_restart(stage: Stage) -> None:
    """The silo takes it for a restart that it has not heard of, asks again for evidence, and stays in the round."""
    [waiting] = [event["text"] for event in stage.restarted.events if "wrong-boot" in event["text"]]
    assert waiting.startswith("the session has ended, beginning another (wrong-boot: expected a round of the boot ")
    assert waiting.endswith("; the appliance restarted: enrol again)")
    assert [event["event"] for event in stage.restarted.events][-3:] == ["round", "waiting", "enrolled"]


def test_an_entry_of_an_earlier_round_in_the_tree_of_today(stage: Stage) -> None:
    """It is in the log, and cosigned: only the boot that it names tells."""
    run = stage.cheated(announcing(stage, with_the_entry_of_round_3))
    assert "wrong-boot: expected a round of the boot " in run.wait_for("waiting")["text"]
    run.wait_for("enrolled", since=len(run.events))
    assert not any(event["event"] == "round" for event in run.events)


# Outcomes


OUTCOMES: dict[str, tuple[Change, str]] = {
    "withheld": (
        lambda stage, found: replace(found, outcome=None),
        "wrong-round: expected what became of this silo's update for attempt 1 of round 4, found an announcement that ",
    ),
    "of another attempt": (
        with_the_outcome_of_round_3,
        "wrong-round: expected how attempt 1 of round 4 ended, found a round.published entry of another moment; ",
    ),
    "that the log does not hold": (
        with_a_made_up_outcome,
        "the appliance's announcement: inclusion: expected ",
    ),
}


@pytest.mark.parametrize("attack", OUTCOMES)
def test_an_outcome(stage: Stage, attack: str) -> None:
    """Silo-3 has an update out, which the restart ended: until that is shown, it doesn't know its control variate."""
    change, sentence = OUTCOMES[attack]
    assert sentence in silo_refusing(stage.cheated(announcing(stage, change, IN_DOUBT), IN_DOUBT), exit_code=3)


# Bodies


def serving(kind: str, other: bytes) -> Cheat:
    """Other bytes for a body, to whoever asks."""
    return Cheat(body=lambda silo, name: other if name.endswith(f".{kind}") else None)


def forged(stage: Stage) -> bytes:
    """Another model under the tags and the signature of this one, by a silo that holds its key."""
    chunks = Layout.parse((stage.federation.folder / "layout.json").read_bytes()).chunks
    wanted = torch.full((4,), 1000.0).numpy().tobytes()
    return Anatomy(stage.bodies()["model"], chunks).under_one_tag(stage.model_key(), 0, wanted)


UNUSED = "; nothing of it was used; the appliance's store was changed, or it handed out something else"
ANOTHER_BLOB = "wrong-model: expected the sealed {kind} of this round, found a blob with {found}" + UNUSED
BODIES: dict[str, tuple[str, Callable[[Stage], bytes], str]] = {
    "a model with a bit changed": (
        "model",
        lambda stage: flipped(stage.bodies()["model"]),
        "the model of this round does not open: segment 1: does not open under this key, header and place" + UNUSED,
    ),
    "a model without the log's signature": (
        "model",
        lambda stage: stage.bodies()["model"][:-64] + bytes(64),
        "the model of this round does not open: signature does not verify under ed25519:",
    ),
    "the model of the round before": (
        "model",
        lambda stage: stage.old_bodies["model"],
        "wrong-model: expected the sealed model sha256:",
    ),
    "another model under the same signature, by a silo that helps": (
        "model",
        forged,
        "wrong-model: expected a model with the content that the log names, sha256:",
    ),
    "the control variate for the model": (
        "model",
        lambda stage: stage.bodies()["control"],
        ANOTHER_BLOB.format(kind="model", found="control in the place of kind model"),
    ),
    "a model that is cut short": (
        "model",
        lambda stage: stage.bodies()["model"][:-1],
        "in the place of 4775 bytes" + UNUSED,
    ),
    "nothing for the model": (
        "model",
        lambda stage: b"",
        "wrong-model: expected the sealed model of this round, found something else (bytes at 0: expected 18, found 0)",
    ),
    "a model without end": (
        "model",
        lambda stage: bytes(2**22),
        "bytes, as the layout has it, found more; nothing of it was kept: the appliance hands out something else",
    ),
    "a control variate with a bit changed": (
        "control",
        lambda stage: flipped(stage.bodies()["control"]),
        "the control of this round does not open: segment 1: does not open under this key, header and place" + UNUSED,
    ),
    "the control variate of the round before": (
        "control",
        lambda stage: stage.old_bodies["control"],
        "wrong-model: expected the sealed control sha256:",
    ),
    "the model for the control variate": (
        "control",
        lambda stage: stage.bodies()["model"],
        ANOTHER_BLOB.format(kind="control", found="model in the place of kind control"),
    ),
}


@pytest.mark.parametrize("attack", BODIES)
def test_a_download_of(stage: Stage, attack: str) -> None:
    kind, other, sentence = BODIES[attack]
    assert sentence in silo_refusing(stage.cheated(serving(kind, other(stage))), exit_code=3)


# Other messages


def instead(message: Callable[[Stage], bytes]) -> Callable[[Stage], Cheat]:
    """Something else in the place of the announcement."""

    def cheat(stage: Stage) -> Cheat:
        return Cheat(to_silo=lambda silo, honest: [message(stage) if silo == VICTIM else honest])

    return cheat


def older_cosign_request(stage: Stage) -> bytes:
    return next(
        message
        for silo, message in stage.gateway.sent
        if silo == VICTIM and isinstance(parse_to_silo(message), CosignRequest)
    )


MESSAGES: dict[str, tuple[Callable[[Stage], Cheat], int, str]] = {
    "a request to cosign an older checkpoint": (
        instead(older_cosign_request),
        4,
        "log-rolled-back: expected a log of at least the ",
    ),
    "a request for another initial model": (
        instead(lambda stage: WantInitial(digest=bytes(32)).encode()),
        3,
        "wrong-model: expected a request for the agreed initial model sha256:",
    ),
    "no message of this protocol": (
        instead(lambda stage: b"\x1b[2K\rPASS"),
        3,
        "the appliance's message: ",
    ),
}


@pytest.mark.parametrize("attack", MESSAGES)
def test_in_the_place_of_an_announcement(stage: Stage, attack: str) -> None:
    cheat, code, sentence = MESSAGES[attack]
    line = silo_refusing(stage.cheated(cheat(stage)), exit_code=code)
    assert line.startswith(sentence)
    assert line.isprintable()


def test_a_refusal_in_the_operators_words_is_said_to_be_his(stage: Stage) -> None:
    """What he writes can't pass for the silo's own finding, nor write over what stood on the terminal before."""
    words = pb.Refusal(
        code=RefusalCode.WRONG_PARENT,
        expected="a state folder that is not damaged\x1b[1A\x1b[2K",
        found="damage\n",
        remedy="delete the state folder, and begin again",
    )
    run = stage.cheated(Cheat(turned_away=lambda silo: words if silo == VICTIM else None))
    assert silo_refusing(run, exit_code=3) == (
        "wrong-parent: expected a state folder that is not damagedU+001B[1AU+001B[2K, found damageU+000A; "
        "delete the state folder, and begin again (so says the appliance, unsigned)"
    )


# Answers to uploads


def test_an_update_that_is_changed_between_its_admission_and_the_merge(stage: Stage) -> None:
    """The attempt is abandoned, by name; the silo is not held to it, and its next update is used."""
    log = stage.federation.log()
    [abandoned] = [entry for entry in log if isinstance(entry, RoundAbandoned) and entry.round == 2]
    assert (abandoned.attempt, abandoned.reason, abandoned.silo) == (1, "spool-changed", SPOILED)
    [published] = [entry for entry in log if isinstance(entry, RoundPublished) and entry.round == 2]
    assert published.attempt == 2
    assert SPOILED in [member.silo for member in published.cohort]
    for run in (stage.waiting[SPOILED], stage.repeated):
        told = [event["text"] for event in run.events if event["event"] == "outcome" and event["round"] == 2]
        assert told == [
            "attempt 1 of round 2 was abandoned: spool-changed",
            "round 2 was published, with this silo's update",
        ]


ANSWERS: dict[str, tuple[str, Callable[[Stage], pb.Reply], int, str]] = {
    "the receipt of its own update of an earlier round": (
        "silo-2",
        lambda stage: next(reply for silo, reply in stage.gateway.answered if silo == "silo-2"),
        4,
        "other-log: expected a receipt for the update that was uploaded, found one for another update.accepted entry; ",
    ),
    "no receipt": (
        "silo-0",
        lambda stage: pb.Reply(message=UploadAccepted(entry=None, receipt=None).encode()),
        3,
        "the appliance's answer to an upload: expected an entry and its receipt for an update, found none" + UNHEEDED,
    ),
}


@pytest.mark.parametrize("attack", ANSWERS)
def test_in_answer_to_an_upload(stage: Stage, attack: str) -> None:
    silo, other, code, sentence = ANSWERS[attack]
    answer = other(stage)
    stage.gateway.cheat = Cheat(answer=lambda name, reply: answer if name == silo else reply)
    stage.federation.gate(4, silo)
    run = stage.waiting[silo]
    assert run.exit_code() == code
    assert run.errors.splitlines()[-1].startswith(sentence)
    assert not any(event["event"] == "submitted" and event["round"] == 4 for event in run.events)
