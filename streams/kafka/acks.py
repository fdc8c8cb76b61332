"""Which offsets of a partition were delivered, which were acked, and how far it is safe to commit: pure bookkeeping.

Records disappear between the broker and a step: Faust drops fetched ones when a partition is paused, flow is stopped or
the group changes, although the position has moved on. What follows looks like a hole in the log then. A ledger tells
the two apart exactly, because it sees every fetch: an offset is a hole only if the broker skipped it.
"""

import enum
from collections.abc import Iterable

NO_EPOCH = -1
"""No batch was read yet, or it is of a broker that counts no leader epochs."""


class Verdict(enum.Enum):
    """What to do with a fetched record."""

    DELIVER = "deliver"
    DROP = "drop"
    REWIND = "rewind"


class Ledger:
    """One partition. Offsets below `low` may be committed; offsets from `next` on have not been delivered.

    Between the two lie deliveries whose effects are not all confirmed. `low <= next`, and neither ever passes an
    offset that the broker holds and that was not acked (`low`) or delivered (`next`).
    """

    __slots__ = ("_acked", "_holes", "_position", "_sizes", "epoch", "held_bytes", "is_ahead", "low", "next", "proven")

    def __init__(self, base: int, epoch: int = NO_EPOCH) -> None:
        """`base` is the committed offset, or the earliest where there is none; `epoch` was committed with it."""
        self.low = self.next = self.proven = base
        self.epoch = epoch
        """The highest leader epoch that was read. The log held everything before `proven` then."""
        self.held_bytes = 0
        """Of deliveries that are not acked."""
        self._sizes: dict[int, int] = {}
        self._acked: set[int] = set()
        self._holes: dict[int, int] = {}
        self._position: int | None = None
        self.is_ahead = False
        """Whether the fetcher was sent back by itself: the log has lost offsets that were read or committed."""

    @property
    def outstanding(self) -> int:
        """Deliveries that may not be committed yet."""
        return self.next - self.low

    @property
    def in_step(self) -> bool:
        """Whether the fetcher is known to go on with the first record that has not been delivered.

        Asked between two fetches, when all of the last one has been delivered or dropped.
        """
        wanted = self.next
        while wanted in self._acked or wanted in self._holes:
            wanted = self._holes.get(wanted, wanted + 1)
        return self._position == wanted

    def sought(self, offset: int) -> None:
        """The fetcher has been told to go on from `offset`."""
        self._position = offset

    def unsure(self) -> None:
        """A fetch may have moved the position without our seeing what it brought."""
        self._position = None

    def fetched(self, offsets: Iterable[int]) -> None:
        """The broker's answer from the present position on, whole and in order: what it skips does not exist."""
        for offset in offsets:
            if self._position is not None and offset > self._position:
                self._holes[self._position] = offset
            self.is_ahead |= self._position is not None and offset < self._position
            self._position = offset + 1

    def reached(self, position: int) -> None:
        """The fetcher stands at `position`, and what it brought up to there has been told: the rest does not exist.

        So the ledger passes what no record follows: markers of transactions, and what was aborted.
        """
        self.is_ahead |= self._position is not None and position < self._position
        if self._position is not None and position > self._position:
            self._holes[self._position] = position
            self._position = position
        self._pass_holes()

    def read_under(self, epoch: int, position: int) -> None:
        """The log holds everything before `position`, and batches of `epoch` and none of a higher one."""
        if epoch >= self.epoch:
            self.epoch, self.proven = epoch, max(self.proven, position)

    def admit(self, offset: int) -> Verdict:
        """Judge a fetched record. After REWIND seek to `next`, tell `sought`, and drop the rest of this fetch."""
        self._pass_holes()
        if offset < self.next:
            return Verdict.DROP
        return Verdict.REWIND if offset > self.next else Verdict.DELIVER

    def delivered(self, offset: int, size: int = 0) -> None:
        """The record, of `size` bytes, has reached its step's queue. An attempt that was cut short is no delivery."""
        if offset == self.next:
            self.next = offset + 1
            self._sizes[offset] = size
            self.held_bytes += size

    def ack(self, offset: int) -> bool:
        """All effects of `offset` are confirmed. False if it counts as acked already or was not delivered."""
        if not self.low <= offset < self.next or offset in self._acked:
            return False
        self._acked.add(offset)
        self.held_bytes -= self._sizes.pop(offset, 0)
        self._advance()
        return True

    def rewind(self) -> int:
        """Deliver again whatever is not acked; returns the offset to seek to."""
        self.next = self.low
        self._position = None
        self._sizes.clear()
        self.held_bytes = 0
        return self.next

    def _pass_holes(self) -> None:
        while True:
            if (end := self._holes.get(self.next)) is not None:
                self.next = end
            elif self.next in self._acked:  # acked before a rewind
                self.next += 1
            else:
                break
        self._advance()

    def _advance(self) -> None:
        while self.low < self.next:
            if self.low in self._acked:
                self._acked.discard(self.low)
                self.low += 1
            elif (end := self._holes.pop(self.low, None)) is not None:
                self.low = end
            else:
                return
