"""A federation with one silo that cheats, round after round, and what the log and the others make of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from process_federation import PATIENCE_SECONDS, ProcessFederation
from silo_by_hand import HandSilo, drive
from torch import nn

from audit.entries import Entry, RoundAbandoned, RoundOpened, RoundPublished, UpdateAccepted, UpdateRefused
from protocol.errors import ProtocolError, RefusedError
from protocol.sealing import BlobKind
from silo_client.bodies import body_limit_bytes, open_body
from silo_client.machine import Train
from silo_client.model import Sections

Ending = RoundPublished | RoundAbandoned


class Net(nn.Module):
    """Two whole chunks of parameters and a small one, float buffers as large as that, an integer buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2**19 + 4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


class Scene:
    """The last silo of the agreement is the hostile one; whoever is `present` takes part in what is driven."""

    def __init__(self, made: ProcessFederation) -> None:
        self.made = made
        *self.honest, self.hostile = (HandSilo(made, name) for name in made.names)
        self.present = [*self.honest, self.hostile]
        for silo in self.present:
            silo.join()
        self.drive(lambda: self.made.entries(RoundOpened), "the first round")

    def drive(self, until: Callable[[], object], what: str) -> None:
        """Let everybody present take turns."""
        drive(self.present, until, what)

    def collecting(self) -> RoundOpened:
        """An attempt that everybody present was told of, and for which the hostile silo has no verdict yet."""
        entry = self._announced()
        if any(said.silo == self.hostile.name for said in self.verdicts(entry)):
            self.finish()
            entry = self._announced()
        return entry

    def _announced(self) -> RoundOpened:
        entry = self.made.entries(RoundOpened)[-1]
        self.drive(lambda: all(silo.opened == entry for silo in self.present), f"round {entry.round} everywhere")
        return entry

    def verdicts(self, entry: RoundOpened) -> list[UpdateAccepted | UpdateRefused]:
        """What the log says of updates for an attempt."""
        said = [each for each in self.made.log() if isinstance(each, UpdateAccepted | UpdateRefused)]
        return [each for each in said if (each.round, each.attempt) == (entry.round, entry.attempt)]

    def finish(self) -> Ending:
        """The honest silos' updates for the open attempt, once the hostile one has its verdict; how it ended."""
        entry = self._announced()
        answered = {said.silo for said in self.verdicts(entry)}
        for silo in self.honest:
            if silo.name not in answered:
                silo.submit()
        return self.ending(entry)

    def out_of_session(self, *messages: bytes) -> ProtocolError:
        """What ends a new session of the hostile silo that says this."""
        silo = self.hostile
        silo.channel.connect(silo.enrol())
        return self.ended_by(*messages)

    def ended_by(self, *messages: bytes) -> ProtocolError:
        """What ends its session once it has said this too."""
        for message in messages:
            self.hostile.channel.send(message)
        try:
            while self.hostile.channel.receive(PATIENCE_SECONDS) is not None:
                pass
        except ProtocolError as error:
            return error
        raise AssertionError("the session goes on")

    def ending(self, entry: RoundOpened) -> Ending:
        """How an attempt ended, once it has."""

        def found() -> list[Ending]:
            ended = [each for each in self.made.log() if isinstance(each, RoundPublished | RoundAbandoned)]
            return [each for each in ended if (each.round, each.attempt) == (entry.round, entry.attempt)]

        self.drive(found, f"the end of round {entry.round}, attempt {entry.attempt}")
        return found()[0]

    def cohort(self, ending: Ending) -> list[str]:
        """Whose updates a published round used."""
        assert isinstance(ending, RoundPublished), ending
        return [member.silo for member in ending.cohort]

    def refused(self, act: Callable[[], object]) -> tuple[RefusedError, list[Entry]]:
        """The refusal of what the hostile silo does, and what it has added to the log."""
        before = len(self.made.log())
        with pytest.raises(RefusedError) as caught:
            act()
        return caught.value, self.made.log()[before:]

    def spooled(self, silo: HandSilo) -> Path:
        """Where the operator finds a silo's newest complete upload."""
        [blob] = (self.made.store / "spool" / silo.name).glob("*.blob")
        return blob

    def model(self) -> Sections:
        """The newest announced model, as an honest silo opens it."""
        silo = self.honest[0]
        self._announced()
        train = next(step for step in reversed(silo.steps) if isinstance(step, Train))
        limit = body_limit_bytes(silo.layout, BlobKind.MODEL)
        source = silo.channel.download(train.model.name, limit_bytes=limit)
        return open_body(source, train.model, BlobKind.MODEL, train.entry.model, silo.form)[0]

    def audit(self) -> str:
        """What an auditor reads who was not there and has a silo's kept checkpoint; it must be a PASS."""
        head = self.honest[0].machine.state.head
        assert head is not None
        kept = self.made.folder / "kept.note"
        kept.write_bytes(head.encode())
        return audit_of(self.made, "--head", kept)


def audit_of(made: ProcessFederation, *options: str | Path) -> str:
    """What `strongroom audit verify` says; it must be a PASS."""
    done = made.command("audit", "verify", made.store, "--agreement", "federation.toml", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
