"""Vendor files in; one outcome each, and the series of those that can be used."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cachetools import LRUCache

from agents.core import fingerprint
from agents.work import StepFunction, Work
from schemas.errors import MessageTooLargeError, RejectedError
from schemas.series import Series
from schemas.topics import SERIES, UPLOAD_OUTCOMES
from schemas.upload import UploadOutcome

if TYPE_CHECKING:
    from agents.ingest.files.unified_file import UnifiedFile


class FileLimits(Protocol):
    """How large a file may be, and how much gap-free glucose of it is needed and used."""

    @property
    def max_upload_bytes(self) -> int: ...
    @property
    def minimum_duration_minutes(self) -> int: ...
    @property
    def maximum_wanted_duration(self) -> int: ...


REMEMBERED_FILES = 64
"""Files whose result is kept in memory: one sent again is hashed, not parsed."""

WARM_UP_FILE = (
    b"sequence_id,original_datetime,original_glucose,quality,event_type,datetime,glucose,carbs,insulin_slow,insulin_fast,"
    b"exercise\n0,2026-01-01T00:00:00.000,100.0,0,EGV_READ,2026-01-01T00:00:00.000,100.0,,,,\n"
)


class Refusal(NamedTuple):
    """Why a file cannot be used. Not the error itself, which would keep the file in memory."""

    code: str
    reason: str


def warm_up() -> None:
    """Load what parsing needs before somebody waits for it: half a second of imports."""
    from agents.ingest.files.unified_file import Rules, unify_file

    with contextlib.suppress(RejectedError):
        unify_file(WARM_UP_FILE, "UTC", Rules())


def build(settings: FileLimits) -> StepFunction:
    """The step of ``cgm.uploads``. A file that cannot be used ends in a rejected outcome: its sender has to mend it."""
    from agents.ingest.files.unified_file import Rules, unify_file

    rules = Rules(settings.minimum_duration_minutes, settings.maximum_wanted_duration)
    known: LRUCache[str, UnifiedFile | Refusal] = LRUCache(REMEMBERED_FILES)

    async def unified(upload_id: str, raw: bytes | None, timezone: str) -> "UnifiedFile | Refusal":
        found = known.get(upload_id)
        if found is None:
            try:
                if raw and len(raw) > settings.max_upload_bytes:
                    raise MessageTooLargeError(
                        f"the file has {len(raw)} bytes, {settings.max_upload_bytes} are allowed: "
                        "export a shorter time range"
                    )
                found = await asyncio.to_thread(unify_file, raw, timezone, rules)
            except RejectedError as error:
                found = Refusal(error.code, str(error))
            known[upload_id] = found
        return found

    async def step(work: Work) -> None:
        message = work.message
        timezone = message.headers.get("timezone", b"").decode(errors="replace").strip() or "UTC"
        upload_id = fingerprint.upload_id(message.value or b"", timezone)
        found = await unified(upload_id, message.value, timezone)
        if isinstance(found, Refusal):
            outcome = UploadOutcome(
                upload_id=upload_id,
                status="rejected",
                code=found.code,
                reason=found.reason,
                began_ms=message.timestamp_ms,
                timezone=timezone[:64],
            )
            work.send(UPLOAD_OUTCOMES, upload_id, outcome.to_json())
            return
        series_key = fingerprint.tail_key(fingerprint.suffix_chain(found.start_seconds, found.centi))
        series = Series(
            upload_id=upload_id,
            handle=fingerprint.handle_of(timezone, found.start_seconds, found.centi),
            series_key=series_key,
            timezone=timezone,
            start_seconds=found.start_seconds,
            glucose_centi_mgdl=found.centi,
            warnings_json=found.warnings.to_json().decode(),
            began_ms=message.timestamp_ms,
            force=message.headers.get("force", b"") == b"1",
        )
        work.send(SERIES, series_key, series.to_arrow())

    return step
