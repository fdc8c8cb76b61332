"""Whose uploads a caller has: who shows a key of single people holds theirs, everybody else holds all.

An upload with a key of single people belongs to them together (`fingerprint.owner_of`), and its ids are their own:
equal files of two people have two handles, of which neither says anything of the other. A key holds what belongs to all
its people together or to one of them alone. What came without keys, or with one for everybody, is everybody's: those of
single people do not hold it.
"""

import dataclasses
import functools

from agents.core.fingerprint import owner_of


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """A caller, as far as uploads go."""

    owner: str | None = None
    """To whom their uploads belong; None: to everybody."""
    owners: frozenset[str] = frozenset()
    """Whose uploads they hold, where they do not hold all."""

    def holds(self, owner: str | None) -> bool:
        return self.owner is None or owner in self.owners


EVERYBODY = Holder()
"""Who holds all: without keys anybody, and the process itself."""


@functools.lru_cache(1024)
def holder_for(subject_ids: tuple[str, ...]) -> Holder:
    """Who shows a key of just these people."""
    together = owner_of(subject_ids)
    return Holder(together, frozenset({together, *(owner_of([each]) for each in subject_ids)}))
