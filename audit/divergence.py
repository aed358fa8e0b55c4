"""An entry that does not follow from the ones before it, as the transition table and the steps of an audit raise it."""


class DivergenceError(Exception):
    """An entry that doesn't follow from the ones before it: a lie, or a bug. Names the entry and what is wrong."""

    def __init__(self, index: int, kind: str | None, problem: str) -> None:
        super().__init__(f"entry {index} ({kind}): {problem}")
        self.index = index
        self.kind = kind
        self.problem = problem
