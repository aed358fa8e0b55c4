"""Votes: which owners have cosigned the checkpoint that the enclave waits for.

A vote is a cosignature (C2SP cosignature/v1) by a silo's identity key over exactly that checkpoint; each owner
counts once. Nothing derived from an update is released before the agreement's number of owners has voted.
"""

from audit.agreed import cosigner_of
from audit.note import Checkpoint, NoteSignature
from protocol.agreement import Agreement


class Votes:
    """The votes for one checkpoint."""

    def __init__(self, *, agreement: Agreement, note: str) -> None:
        self._agreement = agreement
        self.note = note
        self._checkpoint = Checkpoint.parse(note.encode())
        self._lines: dict[str, str] = {}
        self._times: dict[str, int] = {}

    @property
    def size(self) -> int:
        """The number of entries that the checkpoint covers."""
        return self._checkpoint.size

    @property
    def lines(self) -> list[str]:
        """A cosignature line for each owner who has voted, in the agreement's order; a note has room for no more."""
        lines: dict[str, str] = {}
        for silo in self._agreement.silos:
            if silo.name in self._lines:
                lines.setdefault(silo.owner, self._lines[silo.name])
        return list(lines.values())

    @property
    def cosigned_note(self) -> str:
        """The checkpoint with the votes, as they were verified here: nothing in it was read from the store."""
        signatures = [NoteSignature.parse(line) for line in self.lines]
        return self._checkpoint.with_signatures(signatures).encode().decode()

    @property
    def reached(self) -> bool:
        """Whether the agreement's number of owners has voted."""
        owners = {silo.owner for silo in self._agreement.silos if silo.name in self._lines}
        return len(owners) >= self._agreement.log.cosigners

    def voted(self, silo: str) -> bool:
        return silo in self._lines

    @property
    def time(self) -> int:
        """A time (unix seconds) that has passed by some honest silo's clock, whatever `faulty` owners claim."""
        newest: dict[str, int] = {}
        for silo in self._agreement.silos:
            if silo.name in self._times:
                newest[silo.owner] = max(newest.get(silo.owner, 0), self._times[silo.name])
        claims = sorted(newest.values(), reverse=True)
        faulty = self._agreement.log.faulty
        return claims[faulty] if len(claims) > faulty else 0

    def add(self, silo: str, line: str) -> None:
        """Count a silo's cosignature.

        Raises `SignatureError` or `MalformedError` if the line is no cosignature of this checkpoint by that silo.
        """
        key = cosigner_of(self._agreement, self._agreement.silo(silo))
        signature = NoteSignature.parse(line)
        self._times[silo] = key.verify(signature, self._checkpoint.note.text) or 0
        self._lines[silo] = line
