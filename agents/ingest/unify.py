"""Vendor files in; one outcome each, and the series of those that can be used."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from agents.core import fingerprint
from agents.core.record_checks import is_digest
from agents.ingest.files.readers import FileParser, ReaderLimits, Readers
from agents.ingest.files.unified_file import Rules, UnifiedFile
from agents.work import Work
from schemas.errors import MalformedRecordError, MessageTooLargeError, RejectedError, TooCostlyError
from schemas.series import Series
from schemas.topics import SERIES, UPLOAD_OUTCOMES
from schemas.upload import OWNER, UploadOutcome


class FileLimits(ReaderLimits, Protocol):
    """How large and how costly a file may be, and how much gap-free glucose of it is needed and used."""

    @property
    def max_upload_bytes(self) -> int: ...
    @property
    def minimum_duration_minutes(self) -> int: ...
    @property
    def maximum_wanted_duration(self) -> int: ...
    @property
    def file_readers(self) -> int: ...


REMEMBERED_FILES = 64
"""Files whose result is kept in memory: one sent again is hashed, not parsed. But for what a file cost, which is not
the same on another day."""


class Refusal(NamedTuple):
    """Why a file cannot be used. Not the error itself, which would keep the file in memory."""

    code: str
    reason: str


class Unify:
    """The step of ``cgm.uploads``. A file that cannot be used ends in a rejected outcome: its sender has to mend it.

    Raises `UnavailableError` where no process can be started that reads files: that is no verdict on this one.
    """

    def __init__(self, limits: FileLimits, parser: FileParser) -> None:
        self._limits, self._parser = limits, parser
        self._rules = Rules(limits.minimum_duration_minutes, limits.maximum_wanted_duration)
        self._known: LRUCache[str, UnifiedFile | Refusal] = LRUCache(REMEMBERED_FILES)

    async def start(self) -> None:
        """Have the parser ready before somebody waits for it."""
        await self._parser.start()

    async def close(self) -> None:
        """No more files will come."""
        await self._parser.close()

    async def __call__(self, work: Work) -> None:
        message = work.message
        timezone = message.headers.get("timezone", b"").decode(errors="replace").strip() or "UTC"
        owner = _owner(message.headers)
        file_id = fingerprint.upload_id(message.value or b"", timezone)
        upload_id = fingerprint.owned(file_id, owner)
        found = await self._unified(file_id, message.value, timezone)
        if isinstance(found, Refusal):
            outcome = UploadOutcome(
                upload_id=upload_id,
                status="rejected",
                code=found.code,
                reason=found.reason,
                began_ms=message.came_ms,
                timezone=timezone[:64],
                owner=owner,
            )
            work.publish(UPLOAD_OUTCOMES, upload_id, outcome)
            return
        tail = fingerprint.tail_key(fingerprint.suffix_chain(found.start_seconds, found.centi))
        series_key = fingerprint.owned(tail, owner)
        handle = fingerprint.handle_of(found.timezone, found.start_seconds, found.centi)
        series = Series(
            upload_id=upload_id,
            handle=fingerprint.owned(handle, owner),
            series_key=series_key,
            timezone=found.timezone,
            start_seconds=found.start_seconds,
            glucose_centi_mgdl=found.centi,
            interpolated_points=found.interpolated_points,
            warnings_json=found.warnings.to_json().decode(),
            began_ms=message.came_ms,
            force=message.headers.get("force", b"") == b"1",
            owner=owner,
        )
        work.send(SERIES, series_key, series.to_arrow())

    async def _unified(self, file_id: str, raw: bytes | None, timezone: str) -> UnifiedFile | Refusal:
        found = self._known.get(file_id)
        if found is None:
            most = self._limits.max_upload_bytes
            try:
                if raw and len(raw) > most:
                    raise MessageTooLargeError(
                        f"the file has {len(raw)} bytes, {most} are allowed: export a shorter time range"
                    )
                found = await self._parser.unify(raw, timezone, self._rules)
            except TooCostlyError as error:
                return Refusal(error.code, str(error))
            except RejectedError as error:
                found = Refusal(error.code, str(error))
            self._known[file_id] = found
        return found


def _owner(headers: Mapping[str, bytes]) -> str | None:
    """Raises `MalformedRecordError` for an owner that is none: its file must not become everybody's."""
    owner = headers.get(OWNER)
    if owner is None:
        return None
    text = owner.decode(errors="replace")
    if not is_digest(text):
        raise MalformedRecordError("the header owner is not a SHA-256 digest")
    return text


def build(settings: FileLimits) -> Unify:
    """The step, with processes of its own to read files in."""
    return Unify(settings, Readers(settings, settings.file_readers))
