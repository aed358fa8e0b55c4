p='audit/accounts.py'; s=open(p).read()
s=s.replace('''    `heads`: newest first, at most `MAXIMUM_HEADS`. `entries`: receipts with the bytes that they are for. `tree`: of at
    least the newest head's size. `problems`''','''    `heads`: newest first, at most `MAXIMUM_HEADS`. `entries`: receipts with the bytes that they are for. `files`: where
    a whole log lies. `problems`''')
s=s.replace("    tree: TiledNodes | None = None\n","    files: Readable | None = None\n")
s=s.replace('''    @classmethod
    def of_log(''','''    def tree(self, size: int) -> TiledNodes | None:
        """The tree of that many entries, if a whole log lies here; what it says is as unverified as the rest."""
        return None if self.files is None else TiledNodes(self.files, size)

    @classmethod
    def of_log(''',1)
a=s.index("        tree = TiledNodes(files, heads[0].size)"); b=s.index("    @classmethod\n    def of_note")
s=s[:a]+'''        vouchers: list[Voucher] = []
        problems: list[str] = []
        agreement = None
        try:
            for entry in _key_entries(files, heads):
                if entry.keys.log_key in [voucher.log_key for voucher in vouchers]:
                    continue
                vouchers.append(Voucher.of_entry(entry, read_object(files, entry.evidence)))
                if isinstance(entry, LogGenesis):
                    with suppress(LogDamagedError, StoreError):
                        agreement = read_object(files, entry.agreement)
        except (LogDamagedError, StoreError, MalformedError) as error:
            problems.append(f"{name}: {error}")
        return cls(
            name=name, heads=heads, files=files, vouchers=tuple(vouchers), problems=tuple(problems), agreement=agreement
        )

'''+s[b:]
a=s.index("def _key_entries("); b=s.index("def _signed_by(")
s=s[:a]+'''def _key_entries(files: LogFiles, heads: tuple[Checkpoint, ...]) -> Iterator[LogGenesis | ApplianceStarted]:
    """The entries whose evidence vouches for log keys: leaf 0, and the boots if the newest head is by another key."""
    size, data = _first_entry(files, heads)
    genesis = parse_entry(data)
    if not isinstance(genesis, LogGenesis):
        raise MalformedError("entry 0: expected log.genesis, found another kind")
    yield genesis
    if _signed_by(heads[0], genesis.keys.log_key):
        return
    for bundle in entry_bundles(size):
        for data in read_bundle(files, bundle, or_full=True):
            if b'"appliance.started"' in data:
                with suppress(MalformedError):
                    started = parse_entry(data)
                    if isinstance(started, ApplianceStarted):
                        yield started


def _first_entry(files: LogFiles, heads: tuple[Checkpoint, ...]) -> tuple[int, bytes]:
    """Leaf 0, and the size of the newest head whose bundles are there: whoever planted a larger one has no tiles."""
    for head in heads[:_TRIED_HEADS]:
        with suppress(LogDamagedError, StoreError, ValueError):
            return head.size, TiledNodes(files, head.size).entry(0)
    raise MalformedError("entry 0: expected log.genesis, found none to be read")


'''+s[b:]
s=s.replace("import json\n","").replace("from audit.resources import CHECKPOINT, LogDamagedError, checkpoint_name, read_bundle, read_checkpoint, read_object","from audit.resources import (\n    CHECKPOINT,\n    LogDamagedError,\n    Readable,\n    checkpoint_name,\n    read_bundle,\n    read_checkpoint,\n    read_object,\n)")
s=s.replace("ENTRY_SUFFIX =","_TRIED_HEADS = 8\nENTRY_SUFFIX =")
open(p,'w').write(s)
p='audit/compare.py'; s=open(p).read()
s=s.replace('''        found = list(self._contradictions(*chosen))
''','''        for account in self._accounts:
            for receipt, entry in account.entries:
                try:
                    _included(Leaf(entry=entry, hashes=receipt.proof), receipt.index, receipt.checkpoint)
                except ProofError as error:
                    return _unknown(f"{account.name}: the entry is not the one that its receipt is for ({error})")
        found = list(self._contradictions(*chosen))
''')
s=s.replace('''                first, second = sorted((ours_head, theirs_head), key=lambda head: head.size)
                hashes''','''                first, second = sorted((ours_head, theirs_head), key=lambda head: head.size)
                if first.size == second.size and first.checkpoint.root != second.checkpoint.root:
                    yield _Contradicting(first=first, second=second)
                hashes''')
s=s.replace('''            if against.tree is not None and receipt.index < head.size <= against.tree.size:
                leaf = _leaf(head, receipt.index)
                if leaf is not None and leaf.entry != entry:
                    others.append(_Shown(head.checkpoint, leaf))
''','''            leaf = _leaf(head, receipt.index)
            if leaf is not None and leaf.entry != entry:
                others.append(_Shown(head.checkpoint, leaf))
''')
s=s.replace('''        if account.tree is None or account.tree.size < second.size:
            continue
        try:
            hashes = prefix_proof(account.tree, first.size, second.size)
''','''        tree = account.tree(second.size)
        if tree is None:
            continue
        try:
            hashes = prefix_proof(tree, first.size, second.size)
''')
a=s.index("def _leaf("); b=s.index("def _only(")
s=s[:a]+'''def _leaf(head: _Head, index: int) -> Leaf | None:
    """An entry out of the head's own tree, once it is shown to be under the head."""
    tree = head.account.tree(head.size)
    if tree is None or not index < head.size:
        return None
    try:
        leaf = Leaf(entry=tree.entry(index), hashes=inclusion_proof(tree, index, head.size))
        _included(leaf, index, head.checkpoint)
    except (ProofError, LogDamagedError, StoreError):
        return None
    return leaf


def _included(leaf: Leaf, index: int, checkpoint: Checkpoint) -> None:
    verify_inclusion(leaf=leaf_hash(leaf.entry), index=index, proof=leaf.hashes, head=checkpoint.head)


'''+s[b:]
s=s.replace("from audit.merkle import ProofError, inclusion_proof, prefix_proof, prefix_root","from audit.merkle import ProofError, inclusion_proof, leaf_hash, prefix_proof, prefix_root, verify_inclusion")
open(p,'w').write(s)
