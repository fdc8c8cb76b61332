"""Whether a table on disk can be continued from its changelog, and how it is thrown away where it cannot.

Kept in each partition's own database, under keys that no row has: the changelog offset that it has reached, when it was
last known to hold all of the changelog, and whether its sources have to be read again. A table is stamped while its
worker owns it (`StrictApp.stamp_tables`): nobody else writes to the changelog then, so it is complete however long ago
the last write was.
"""

from typing import Any, NamedTuple

import rocksdict

from schemas.topics import DELETIONS_KEPT_MS, may_lack_deletions

OFFSET_KEY = b"__faust\0offset__"
"""Where Faust's RocksDB store keeps the changelog offset that a partition has reached."""

COMPLETE_KEY = b"__glucast\0complete__"
"""Unix seconds at which the table was last known to be complete."""

REREAD_KEY = b"__glucast\0reread__"
"""Present while the sources of the partition have to be read from their beginning."""

REWRITE_KEY = b"__glucast\0rewrite__"
"""Present while the files have to be written anew: the last row that was erased, by its changelog offset, or when."""

RESERVED_KEYS = frozenset({OFFSET_KEY, COMPLETE_KEY, REREAD_KEY, REWRITE_KEY})
"""No row has these keys."""

_BEHIND_ALL_KEYS = b"\xff" * 8  # keys of rows are UTF-8


class Fault(NamedTuple):
    """Why a table cannot be continued, and whether its changelog lacks what its sources may still hold."""

    text: str
    sources_too: bool


class Disk:
    """What one partition of a table keeps about itself."""

    def __init__(self, database: Any) -> None:
        """`database` is the partition's open RocksDB, in raw mode."""
        self._database = database

    @property
    def reached(self) -> int | None:
        """The last changelog offset that is in the table; None for an empty one."""
        value = self._database.get(OFFSET_KEY)
        return None if value is None else int(value)

    def fault(self, last_offset: int, now: float) -> Fault | None:
        """Compare with the changelog, whose last record is at `last_offset` (-1: none), at Unix time `now`.

        A new table has no fault, and begins its age here.
        """
        if (reached := self.reached) is None:
            self.stamp(now)
            return None
        if reached > last_offset:
            lost = f"the changelog ends with offset {last_offset}, before offset {reached} that was confirmed"
            return Fault(f"{lost}: Kafka has lost its end", True)
        complete = self._database.get(COMPLETE_KEY)
        if complete is None:
            return Fault("nobody knows how old the table on disk is", False)
        if may_lack_deletions(now - int(complete)):
            hours = DELETIONS_KEPT_MS // 3_600_000
            old = f"the table on disk is older than deletions are kept ({hours} hours)"
            return Fault(old if now > int(complete) else "the table on disk is of a time that has not come", False)
        return None

    def stamp(self, now: float) -> None:
        """The table holds all of its changelog, or begins empty, at Unix time `now`."""
        self._database.put(COMPLETE_KEY, b"%d" % now)

    def wipe(self, now: float, sources_too: bool) -> None:
        """Forget all rows and the offset, and remember that the sources have to be read again: in one write."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        reread = sources_too or self.wants_reread
        batch.delete_range(b"", _BEHIND_ALL_KEYS)
        batch.put(COMPLETE_KEY, b"%d" % now)
        if reread:
            batch.put(REREAD_KEY, b"1")
        self._database.write(batch)

    @property
    def wants_reread(self) -> bool:
        """Whether the sources have to be read from their beginning."""
        return self._database.get(REREAD_KEY) is not None

    @property
    def wants_rewriting(self) -> bytes | None:
        """What `rewritten` has to be told; None where nothing was erased since the files were written."""
        wish: bytes | None = self._database.get(REWRITE_KEY)
        return wish

    def wish_rewritten(self, number: int) -> None:
        """Have the files written anew; `number` is none that was told before."""
        self._database.put(REWRITE_KEY, b"%d" % number)

    def rewritten(self, wish: bytes) -> bool:
        """The files hold nothing of what was erased up to that wish; False where more was erased meanwhile."""
        if self.wants_rewriting != wish:
            return False
        self._database.delete(REWRITE_KEY)
        return True

    def reread_began(self) -> None:
        """The group's offsets of the sources have been set back."""
        self._database.delete(REREAD_KEY)
