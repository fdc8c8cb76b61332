"""Content hashes: the one place where canonical bytes are defined. Equal content gives equal ids everywhere.

Every digest is SHA-256 over a domain line ``glucast-<what>-v1\\n`` and the fields below, so that two kinds of id
never meet. Numbers are little endian:

    glucose   int32, hundredths of mg/dL            (`to_centi`; noise below 0.005 mg/dL disappears)
    times     int64, seconds of local time since 1970-01-01T00:00, 5 minutes apart
    counts    int64
    texts     int32 length in bytes, then UTF-8     (an absent text is length -1)

A series' suffix chain is ``chain[0] = H("glucast-suffix-v1\\n")``, ``chain[m] = H(chain[m-1], time, glucose)`` of the
m-th last point: it identifies the last m points with their times, so one stored chain verifies every suffix.
"""

import datetime
import hashlib
import math
import struct
from collections.abc import Iterable, Sequence

from agents.core.past_hours import HOURS_VERSION
from schemas.grid import STEP_SECONDS, WINDOW_POINTS


def to_centi(glucose_mgdl: float) -> int:
    """mg/dL to hundredths, ties to even. Raises ValueError for what is not a finite number."""
    if not math.isfinite(glucose_mgdl):
        raise ValueError("glucose must be a finite number")
    return round(glucose_mgdl * 100)


def canonical_series(timezone: str, start_seconds: int, centi: Sequence[int]) -> bytes:
    """The bytes that a handle hashes: timezone, first time, step, points."""
    head = b"glucast-series-v1\n" + _text(timezone)
    return head + struct.pack("<qqq", start_seconds, STEP_SECONDS, len(centi)) + _glucose(centi)


def handle_of(timezone: str, start_seconds: int, centi: Sequence[int]) -> str:
    """Content hash of a unified series, hexadecimal."""
    return hashlib.sha256(canonical_series(timezone, start_seconds, centi)).hexdigest()


def suffix_chain(start_seconds: int, centi: Sequence[int]) -> list[bytes]:
    """``chain[m]`` identifies the last m points and their times, for m from 0 to all."""
    link = hashlib.sha256(b"glucast-suffix-v1\n").digest()
    chain = [link]
    for position in range(len(centi) - 1, -1, -1):
        time = start_seconds + position * STEP_SECONDS
        link = hashlib.sha256(link + struct.pack("<qi", time, centi[position])).digest()
        chain.append(link)
    return chain


def tail_key(chain: Sequence[bytes]) -> str:
    """The series key of an upload, hexadecimal: its last 108 points (all, if it has fewer).

    Uploads that agree in one window with its target hour belong to one partition.
    """
    return chain[min(WINDOW_POINTS, len(chain) - 1)].hex()


def input_hash(end_seconds: int, centi: Sequence[int], hours_centi: Sequence[int | None] = ()) -> str:
    """Hash of what a model sees: the past points, the time of the last, the hours before them as far as they are known.

    Where nothing is known of the hours it is what it was before there were any: ``glucast-window-v1``; else
    ``glucast-window-v2`` of version and number of the hours too, and of the hours, -1 for one that is not known.
    """
    window = struct.pack("<qq", end_seconds, len(centi)) + _glucose(centi)
    if not hours_centi:
        return hashlib.sha256(b"glucast-window-v1\n" + window).hexdigest()
    hours = struct.pack("<qq", HOURS_VERSION, len(hours_centi))
    hours += _glucose([-1 if hour is None else hour for hour in hours_centi])
    return hashlib.sha256(b"glucast-window-v2\n" + window + hours).hexdigest()


def forecast_id(input_hash: str, model_fingerprint: str, num_samples: int, seed: int) -> str:
    """Names a computation: the same window, model, number of samples and seed give the same samples."""
    return _digest("forecast", input_hash, model_fingerprint, num_samples, seed)


def handle_place(handle: str, index: int) -> str:
    """Where a forecast of an upload belongs."""
    return f"{handle}/{index}"


def slot_place(slot: int) -> str:
    """Where a forecast of a subject belongs: the UTC 5-minute slot of its last known point."""
    return str(slot)


def request_id(
    kind: str, series_key: str, place: str, input_hash: str, num_samples: int, seed: int, demand_id: str | None = None
) -> str:
    """Names a request. `demand_id` only where the demand forces a computation, which makes it a request of its own."""
    return _digest("request", kind, series_key, place, input_hash, num_samples, seed, demand_id)


def chart_id(forecast_id: str, kind: str, series_key: str, place: str) -> str:
    """Names a fan chart: a computation and whose it is."""
    return _digest("chart", forecast_id, kind, series_key, place)


def score_id(series_key: str, target_slot: int, charts: Iterable[str]) -> str:
    """Names the scores of a target time: whose it is, and which forecasts are scored."""
    return _digest("score", series_key, target_slot, *charts)


def alert_id(subject_id: str, kind: str, slot: int) -> str:
    """Names an alert: whose, of what kind, and the UTC 5-minute slot of the forecast that its episode began with."""
    return _digest("alert", subject_id, kind, slot)


def data_alert_id(subject_id: str, kind: str, time: datetime.datetime) -> str:
    """Names an alert about data: whose, of what kind, and the instant (whatever its offset) that it is named by.

    A slot would not do: what is over may come back within its five minutes.
    """
    return _digest("data-alert", subject_id, kind, _microseconds(time))


def delivery_id(webhook_id: str, event_id: str) -> str:
    """Names a delivery: one event to one webhook."""
    return _digest("delivery", webhook_id, event_id)


def upload_id(raw: bytes, timezone: str) -> str:
    """Names an upload: the file's bytes and the timezone they are read in."""
    digest = hashlib.sha256(b"glucast-upload-v1\n" + _text(timezone))
    digest.update(raw)
    return digest.hexdigest()


def owner_of(subject_ids: Iterable[str]) -> str:
    """Names whose an upload is: of these people together. It says who only to who knows them."""
    return _digest("owner", *sorted(set(subject_ids)))


def owned(identity: str, owner: str | None) -> str:
    """An id of an upload, of its series or of its tail, as it is for one owner; what is nobody's keeps the plain one.

    So equal files of two owners have nothing in common: neither learns of the other's, nor reaches it.
    """
    return identity if owner is None else _digest("owned", owner, identity)


def outcome_id(subject_id: str, time: datetime.datetime, glucose_mgdl: float) -> str:
    """Names what became of a reading: whose, the instant (whatever its offset) and the value in hundredths."""
    return _digest("outcome", subject_id, _microseconds(time), f"{glucose_mgdl:.2f}")


def malformed_outcome_id(subject_id: str, value: bytes) -> str:
    """Names what became of a message that names a subject and is no reading."""
    return _digest("malformed-outcome", subject_id, hashlib.sha256(value).hexdigest())


def order_id(order: str, subject_id: str, partition: int, offset: int) -> str:
    """Names the order to begin anew with a subject, or to erase it, by its place in ``cgm.readings``."""
    return _digest(order, subject_id, partition, offset)


def subject_digest(subject_id: str) -> str:
    """Stands for a subject where its name must not: who does not know the name does not learn it."""
    return _digest("subject", subject_id)


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def _microseconds(time: datetime.datetime) -> int:
    return (time - _EPOCH) // datetime.timedelta(microseconds=1)


def _digest(domain: str, *fields: str | int | None) -> str:
    parts = [f"glucast-{domain}-v1\n".encode()]
    parts += [struct.pack("<q", field) if isinstance(field, int) else _text(field) for field in fields]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _text(text: str | None) -> bytes:
    if text is None:
        return struct.pack("<i", -1)
    data = text.encode()
    return struct.pack("<i", len(data)) + data


def _glucose(centi: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(centi)}i", *centi)
