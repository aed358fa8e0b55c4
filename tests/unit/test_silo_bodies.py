"""Sealed bodies as a silo reads and makes them: nothing is handed on before its content is what the log names."""

import os
from dataclasses import replace
from hashlib import sha256

import pytest
import torch
from memory_federation import content_of, initial_sections, signing_key
from silo_appliance import SILO, FakeAppliance, SealedExample, body_format, example, parameters, silo_machine

from audit.store import MemoryStore
from protocol.errors import RefusedError, SignatureError
from protocol.keys import SealingKey, SigningKey
from protocol.layout import Layout, Role, Section, Tensor, content_digest
from protocol.sealing import ANY, BlobKind, BlobReader, ContentKey, ExpectedHeader, MemoryBytes
from protocol.update import UpdateMetadata
from silo_client.bodies import BodyFormat, body_limit_bytes, open_body, read_control, seal_initial, seal_update
from silo_client.machine import SealedBody, SiloMachine
from silo_client.model import allocate_sections
from silo_client.state import StateError

METADATA = UpdateMetadata(steps=3, step_size_sum=0.25, metrics={"loss": 0.5})


@pytest.fixture
def appliance() -> FakeAppliance:
    return FakeAppliance(*example())


@pytest.fixture
def form(appliance: FakeAppliance) -> BodyFormat:
    return body_format(appliance.agreement, appliance.layout)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def machine(appliance: FakeAppliance, store: MemoryStore) -> SiloMachine:
    return silo_machine(appliance.agreement, store)


def body_of(appliance: FakeAppliance, sealed: SealedExample) -> SealedBody:
    return SealedBody(name="body", digest=sealed.digest, key=sealed.key, signer=appliance.log_key.public)


def test_a_model_comes_back_with_its_metadata(appliance: FakeAppliance, form: BodyFormat) -> None:
    sealed = appliance.seal(initial_sections(appliance.layout), metadata=b'{"loss":"0.5"}')
    content = appliance.agreement.model.initial
    sections, metadata = open_body(sealed.blob, body_of(appliance, sealed), BlobKind.MODEL, content, form)
    assert torch.equal(sections[Section.PARAMETERS], initial_sections(appliance.layout)[Section.PARAMETERS])
    assert metadata == b'{"loss":"0.5"}'


def test_a_control_comes_back(appliance: FakeAppliance, form: BodyFormat) -> None:
    values = torch.randn(5)
    sealed = appliance.seal(parameters(values), BlobKind.CONTROL)
    content = content_digest(appliance.layout.digest, [sha256(values.numpy().tobytes()).digest()])
    sections, _ = open_body(sealed.blob, body_of(appliance, sealed), BlobKind.CONTROL, content, form)
    assert torch.equal(sections[Section.PARAMETERS], values)
    assert set(sections) == {Section.PARAMETERS}


class TestRefused:
    def open(self, appliance: FakeAppliance, form: BodyFormat, sealed: SealedExample, **changes: object) -> None:
        body = replace(body_of(appliance, sealed), **changes)  # type: ignore[arg-type]
        open_body(sealed.blob, body, BlobKind.MODEL, appliance.agreement.model.initial, form)

    def test_another_content_than_the_log_names(self, appliance: FakeAppliance, form: BodyFormat) -> None:
        sections = initial_sections(appliance.layout)
        sections[Section.PARAMETERS][2] += 1e-6
        with pytest.raises(RefusedError, match="wrong-model: expected a model with the content that the log names"):
            self.open(appliance, form, appliance.seal(sections))

    def test_another_blob_than_was_announced(self, appliance: FakeAppliance, form: BodyFormat) -> None:
        with pytest.raises(RefusedError, match="wrong-model: expected the sealed model sha256:"):
            self.open(appliance, form, appliance.model(), digest=bytes(32))

    def test_another_signer(self, appliance: FakeAppliance, form: BodyFormat) -> None:
        sealed = appliance.seal(initial_sections(appliance.layout), signer=SigningKey(os.urandom(32)))
        with pytest.raises(SignatureError, match="the model of this round does not open: signature does not verify"):
            self.open(appliance, form, sealed)

    def test_another_key(self, appliance: FakeAppliance, form: BodyFormat) -> None:
        with pytest.raises(SignatureError, match="the model of this round does not open"):
            self.open(appliance, form, appliance.model(), key=ContentKey(bytes(32)))

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("kind", BlobKind.INITIAL, "initial in the place of kind model"),
            ("agreement", bytes(32), f"sha256:{'00' * 32} in the place of agreement sha256:"),
            ("origin", "simulated.elsewhere.example/log", "simulated.elsewhere.example/log in the place of log "),
            ("sender", "silo-1", "silo-1 in the place of sender appliance"),
            ("layout", bytes(32), f"sha256:{'00' * 32} in the place of layout sha256:"),
            ("parent", bytes(16), f"{'00' * 16} in the place of parent none"),
        ],
    )
    def test_another_header(
        self, appliance: FakeAppliance, form: BodyFormat, field: str, value: object, words: str
    ) -> None:
        sections = initial_sections(appliance.layout)
        arguments = {field: value}
        sealed = appliance.seal(sections, **arguments)  # type: ignore[arg-type]
        with pytest.raises(RefusedError) as error:
            self.open(appliance, form, sealed)
        assert f"wrong-model: expected the sealed model of this round, found a blob with {words}" in str(error.value)

    def test_every_flipped_byte(self, appliance: FakeAppliance, form: BodyFormat) -> None:
        sealed = appliance.model()
        whole = bytes(sealed.blob)
        for position in range(0, len(whole), 41):
            changed = bytearray(whole)
            changed[position] ^= 1
            broken = SealedExample(blob=MemoryBytes(bytes(changed)), digest=sealed.digest, key=sealed.key)
            with pytest.raises((RefusedError, SignatureError)):
                self.open(appliance, form, broken)

    @pytest.mark.parametrize("size", [0, 10, 500, -1])
    def test_a_body_that_was_cut_short(self, appliance: FakeAppliance, form: BodyFormat, size: int) -> None:
        sealed = appliance.model()
        cut = SealedExample(blob=MemoryBytes(bytes(sealed.blob)[:size]), digest=sealed.digest, key=sealed.key)
        with pytest.raises(RefusedError, match="wrong-model: expected the sealed model of this round, found"):
            self.open(appliance, form, cut)


class TestSealing:
    def test_an_update_says_which_moment_it_belongs_to_and_opens_for_the_round_key_alone(
        self, appliance: FakeAppliance, machine: SiloMachine, form: BodyFormat
    ) -> None:
        opened, values = appliance.opened(2, 3), torch.randn(5)
        update = seal_update(parameters(values), values, METADATA, opened=opened, state=machine.state, form=form)
        machine.state.hold(update)
        reader = BlobReader(machine.state.open_pending(), appliance.layout.update_chunks)
        expected = ExpectedHeader(
            kind=BlobKind.UPDATE,
            agreement=appliance.agreement.digest,
            origin=appliance.agreement.log.origin,
            boot_id=appliance.boot_id,
            round=2,
            attempt=3,
            sender=SILO,
            upload_id=update.upload_id,
            base_model=opened.model,
            layout=appliance.layout.digest,
            encoding="float32",
            parent=None,
        )
        assert reader.authenticate(signing_key(SILO).public, expected) == update.digest
        key = reader.unwrap(appliance.round_key)
        assert UpdateMetadata.parse(reader.open_metadata(key)) == METADATA
        out = torch.empty(5)
        reader.open_chunk(0, key, out.numpy().data.cast("B"))
        assert torch.equal(out, values)
        with pytest.raises(SignatureError):
            reader.unwrap(SealingKey(os.urandom(96)))

    def test_sealing_again_makes_a_new_key_and_a_new_name(
        self, appliance: FakeAppliance, machine: SiloMachine, form: BodyFormat, store: MemoryStore
    ) -> None:
        opened, values = appliance.opened(), torch.ones(5)
        updates = [
            seal_update(parameters(values), None, METADATA, opened=opened, state=machine.state, form=form)
            for _ in range(2)
        ]
        first, second = (store.read(machine.state.path(update.blob)) for update in updates)
        assert updates[0].upload_id != updates[1].upload_id
        assert first != second

    def test_the_update_does_not_lie_in_the_clear(
        self, appliance: FakeAppliance, machine: SiloMachine, form: BodyFormat, store: MemoryStore
    ) -> None:
        values = torch.arange(5, dtype=torch.float32) + 12345.678
        update = seal_update(
            parameters(values), None, METADATA, opened=appliance.opened(), state=machine.state, form=form
        )
        assert values.numpy().tobytes()[:12] not in store.read(machine.state.path(update.blob))

    def test_the_initial_model_is_sealed_to_the_appliance(
        self, appliance: FakeAppliance, machine: SiloMachine, form: BodyFormat
    ) -> None:
        upload_id, name = seal_initial(
            initial_sections(appliance.layout),
            boot_id=appliance.boot_id,
            recipient=appliance.sealing.public,
            state=machine.state,
            form=form,
        )
        reader = BlobReader(machine.state.files.open(machine.state.path(name)), appliance.layout.chunks)
        expected = ExpectedHeader(
            kind=BlobKind.INITIAL,
            agreement=appliance.agreement.digest,
            origin=appliance.agreement.log.origin,
            boot_id=appliance.boot_id,
            round=0,
            attempt=0,
            sender=SILO,
            upload_id=upload_id,
            base_model=ANY,
            layout=appliance.layout.digest,
            encoding="float32",
            parent=None,
        )
        reader.authenticate(signing_key(SILO).public, expected)
        reader.unwrap(appliance.sealing)

    def test_all_sections_but_the_frozen_go_up(self, machine: SiloMachine, store: MemoryStore) -> None:
        layout = Layout(
            tensors=(
                Tensor(name="w", shape=(3,), dtype="float32", role=Role.PARAMETER),
                Tensor(name="mean", shape=(2,), dtype="float32", role=Role.BUFFER),
                Tensor(name="count", shape=(), dtype="int64", role=Role.BUFFER),
                Tensor(name="fixed", shape=(7,), dtype="float32", role=Role.FROZEN),
            )
        )
        form = BodyFormat(
            agreement=machine.agreement, layout=layout, silo=SILO, identity=signing_key(SILO), random=os.urandom
        )
        sections = allocate_sections(layout, [section for section in Section if section is not Section.FROZEN])
        sections[Section.INTEGER_BUFFERS] += 7
        key = SealingKey(os.urandom(96))
        opened = FakeAppliance(*example()).opened(round_key=key.public.raw)
        update = seal_update(sections, None, METADATA, opened=opened, state=machine.state, form=form)
        reader = BlobReader(store.open(machine.state.path(update.blob)), layout.update_chunks)
        reader.authenticate(signing_key(SILO).public)
        out = torch.zeros(1, dtype=torch.int64)
        reader.open_chunk(2, reader.unwrap(key), out.numpy().data.cast("B"))
        assert int(out) == 7


def test_no_body_is_longer_than_a_download_may_be(appliance: FakeAppliance) -> None:
    sections = initial_sections(appliance.layout)
    assert appliance.seal(sections).blob.size() <= body_limit_bytes(appliance.layout, BlobKind.MODEL)
    control = appliance.seal(sections, BlobKind.CONTROL)
    assert control.blob.size() <= body_limit_bytes(appliance.layout, BlobKind.CONTROL)
    assert content_of(appliance.layout, sections) == appliance.agreement.model.initial


def test_a_damaged_control_variate_is_not_used(
    appliance: FakeAppliance, machine: SiloMachine, form: BodyFormat, store: MemoryStore
) -> None:
    values = torch.ones(5)
    update = seal_update(
        parameters(values), values, METADATA, opened=appliance.opened(), state=machine.state, form=form
    )
    machine.state.pin(appliance.log_key.public)
    machine.state.hold(update)
    machine.state.settle(head=appliance.checkpoint(), used=True, control_epoch=0)
    assert torch.equal(read_control(machine.state, appliance.layout), values)
    name = machine.state.path(machine.state.control_name(update.upload_id))
    for damage in (bytes(20), bytes(16), None):
        if damage is None:
            store.delete(name)
        else:
            store.write(name, damage)
        with pytest.raises(StateError, match="the control variate is .*delete the state folder"):
            read_control(machine.state, appliance.layout)
