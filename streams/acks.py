"""Which offsets of a partition were delivered, which were acked, and how far it is safe to commit: pure bookkeeping."""

import enum


class Verdict(enum.Enum):
    """What to do with a record that the broker has handed out."""

    DELIVER = "deliver"
    DROP = "drop"
    REWIND = "rewind"


class Ledger:
    """One partition. Offsets below `low` may be committed, offsets from `next` on have not been delivered.

    Between the two lie deliveries whose effects are not confirmed yet. A commit never passes one of them, whatever
    records are dropped, fetched twice or missing on the way; `low <= next` always.
    """

    __slots__ = ("_acked", "_sought", "low", "next")

    def __init__(self, base: int) -> None:
        """`base` is the committed offset, or the earliest where nothing was committed."""
        self.low = self.next = base
        self._acked: set[int] = set()
        self._sought: int | None = None

    @property
    def outstanding(self) -> int:
        """Deliveries that may not be committed yet."""
        return self.next - self.low

    def admit(self, offset: int) -> Verdict:
        """Judge a fetched record.

        A record above `next` means that something between was dropped on the way (REWIND: seek to `next`) or does not
        exist (compaction, transaction markers). Fetching again tells: still above, and the hole is real.
        """
        if offset < self.next:
            return Verdict.DROP
        if offset > self.next and self._sought != self.next:
            self._sought = self.next
            return Verdict.REWIND
        self._acked.update(range(self.next, offset))
        self.next = offset
        self._advance()
        if offset in self._acked:  # acked before a rewind
            self.next = offset + 1
            self._advance()
            return Verdict.DROP
        return Verdict.DELIVER

    def delivered(self, offset: int) -> None:
        """The record at `offset` has reached its step's queue: never call it for a mere attempt."""
        if offset == self.next:
            self.next = offset + 1
            self._advance()

    def ack(self, offset: int) -> bool:
        """All effects of `offset` are confirmed. False for an offset that is committable or was never delivered."""
        if not self.low <= offset < self.next or offset in self._acked:
            return False
        self._acked.add(offset)
        self._advance()
        return True

    def rewind(self) -> int:
        """Deliver again what is not acked; returns the offset to seek to. Acked records will be dropped then."""
        self.next = self.low
        self._sought = self.next
        return self.next

    def _advance(self) -> None:
        while self.low < self.next and self.low in self._acked:
            self._acked.discard(self.low)
            self.low += 1
