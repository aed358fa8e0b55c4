"""Why a machine gave no evidence or no key: one line that says what was expected, what was found and what to do.

None of them is about a peer. Nothing secret stands in them; the appliance writes them into its operator's log.
"""


class CollectError(Exception):
    """Base of everything that collecting raises on purpose."""


class NotOffered(CollectError):
    """This machine has no such interface, or doesn't let us use it."""


class CollectionFailed(CollectError):
    """The interface is there, and this request of it failed. Whether another would help, the message says."""


class NoSealingKey(CollectError):
    """This TEE gives its code no key that outlives a restart."""
