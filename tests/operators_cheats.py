"""What an operator of `operators_world.py` can do that he should not: one method a cheat, each of them counted.

Changed files are those of a copy, so that the world goes on; what audit and start make of them is checked at once.
"""

from operators_parts import Instance, copy_of, roots_of
from operators_world import World

from appliance.enclave.startup import StartRefusedError
from audit.report import AuditReport, AuditVerdict
from audit.store import MemoryStore


class CheatedWorld(World):
    """A world whose operator does what he likes."""

    def cheat(self, what: str) -> None:
        self.cheats[what] += 1

    def roll_back(self, number: int, which: int) -> None:
        """He starts an enclave on an older copy of its store."""
        if not self.copies:
            return
        self.cheat("rollback")
        instance = self.instance(number)
        self.learn()
        self.former.append(instance.lineage)
        instance.disk = copy_of(self.copies[which % len(self.copies)])
        instance.lineage = roots_of(instance.disk)
        self.start(instance, instance.disk)

    def second_instance(self, which: int) -> None:
        """He starts another enclave on a copy, beside the first."""
        if self.copies and len(self.instances) < 4:
            self.cheat("second-instance")
            self.begin(copy_of(self.copies[which % len(self.copies)]))

    def second_genesis(self) -> None:
        """He starts another enclave on an empty store."""
        if len(self.instances) < 4:
            self.cheat("second-genesis")
            self.begin(MemoryStore())

    def begin(self, disk: MemoryStore) -> None:
        """Another enclave, which asks the same witness."""
        self.instances.append(Instance(self, disk))
        self.witness.join(self.instances[-1])

    def move(self, name: str, number: int) -> None:
        """He leads a silo to another instance."""
        if self.at.get(name) is not self.instance(number):
            self.connect(name, self.instance(number))

    def replay_message(self, name: str, which: int) -> None:
        """He shows a silo a message of long ago."""
        self.show(name, which, "message-replayed", own=True)

    def misdeliver(self, name: str, which: int) -> None:
        """He shows a silo a message to another one."""
        self.show(name, which, "message-misdelivered", own=False)

    def show(self, name: str, which: int, what: str, *, own: bool, flip: int | None = None) -> None:
        """He shows a silo a message that was sent to it, or to somebody else, maybe with a bit flipped."""
        messages = [message for to, message in self.seen if (to == name) is own]
        if name not in self.at or not messages:
            return
        self.cheat(what)
        message = bytearray(messages[which % len(messages)])
        if flip is not None:
            message[flip // 8 % len(message)] ^= 1 << flip % 8
        instance = self.at[name]
        with self.watching(name, instance):
            instance.deliver(name, bytes(message))

    def flip_bit(self, name: str, which: int, bit: int) -> None:
        """He changes a bit of a message."""
        self.show(name, which, "message-changed", own=True, flip=bit)

    def replay_upload(self, name: str, which: int) -> None:
        """He hands the enclave an upload of long ago, as a silo's."""
        if not self.uploads or name not in self.at:
            return
        whose, data = self.uploads[which % len(self.uploads)]
        self.cheat("upload-replayed" if whose == name else "upload-of-another")
        instance = self.at[name]
        before = instance.kinds().count("update.accepted")
        with self.watching(None, instance):
            instance.complete_bytes(name, data)
            self.alarms["upload-answered-again"] += 1
            accepted = instance.kinds().count("update.accepted") - before
            assert accepted == 0 or (whose == name and name in self.mute), "an upload counted twice, or as another's"

    def tamper(self, number: int, which: int, how: str) -> AuditReport:
        """He changes a file of a copy of a store; what the audit and a start make of it. The original stays."""
        disk = copy_of(self.instance(number).disk)
        names = disk.list("")
        name = names[which % len(names)]
        data = disk.read(name)
        self.cheat(f"tampered-{how}")
        if how == "drop":
            disk.delete(name)
        elif how == "swap":
            others = [each for each in names if each.rpartition("/")[0] == name.rpartition("/")[0] and each != name]
            if not others:
                return self.audit_of(disk)
            other = others[which % len(others)]
            disk.write(name, disk.read(other))
            disk.write(other, data)
        elif how == "cut":
            disk.write(name, data[: len(data) // 2])
        else:
            changed = bytearray(data)
            changed[which % len(changed)] ^= 1 << which % 8
            disk.write(name, bytes(changed))
        report = self.audit_of(disk)
        if name.startswith("log/"):
            assert report.verdict is not AuditVerdict.PASS, f"{how} of {name} passes"
            self.alarms[f"audit-{report.verdict}"] += 1
        else:
            try:
                Instance(self, disk)
                unneeded = True
            except StartRefusedError:
                unneeded = False
                self.alarms["start-refused"] += 1
            # The state of the genesis is needed for its key alone, and bodies that a crash left are needed by nobody.
            assert not unneeded or how == "swap" or self.unnamed(number, name), f"it starts after {how} of {name}"
        return report

    def unnamed(self, number: int, name: str) -> bool:
        """Whether a start of this instance would remove the file, as nothing names it."""
        disk = copy_of(self.instance(number).disk)
        Instance(self, disk)
        return not disk.exists(name)
