"""What senders put on the wire: bodies as their sources write them, and every form in which a key comes."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from query_api.key_file import sha1

Times = Callable[[int], datetime.datetime]
"""Five minutes apart; 0 is the newest of a test."""

SECRET = "anna's own secret"

TIME_MS = 1767254400000
"""2026-01-01T08:00:00Z, 9 o'clock in Vienna."""
UTC = "2026-01-01T08:00:00Z"

BODIES: Mapping[str, Any] = {
    "xDrip+": [
        {"device": "xDrip-DexcomG5", "date": TIME_MS, "dateString": "2026-01-01T09:00:00.000+0100", "sgv": 118,
         "delta": 1.2, "direction": "Flat", "type": "sgv", "filtered": 0, "unfiltered": 0, "rssi": 100, "noise": 1,
         "sysTime": "2026-01-01T09:00:00.000+0100"},
        {"device": "xDrip-DexcomG5", "type": "mbg", "date": TIME_MS, "dateString": "2026-01-01T09:00:00.000+0100",
         "mbg": 121},
        {"device": "xDrip-DexcomG5", "type": "cal", "date": TIME_MS, "slope": 850, "intercept": 30000, "scale": 1},
    ],
    "Loop": [
        {"date": float(TIME_MS), "dateString": UTC, "device": "loop://iPhone", "type": "sgv", "sgv": 118.0, "trend": 4,
         "direction": "Flat", "trendRate": 0.1, "isCalibration": False},
        {"date": float(TIME_MS), "dateString": UTC, "device": "loop://iPhone", "type": "mbg", "mbg": 121.0},
    ],
    "Trio": [
        {"_id": "7A2F2F1E-2D0B-4E57-9A39-0B6A0B0D1C11", "id": "7A2F2F1E-2D0B-4E57-9A39-0B6A0B0D1C11", "sgv": 118,
         "direction": "Flat", "date": TIME_MS, "dateString": "2026-01-01T08:00:00.000Z", "glucose": 118},
    ],
    "nightscout-librelink-up": [
        {"type": "sgv", "sgv": 118, "direction": "Flat", "device": "nightscout-librelink-up", "date": TIME_MS,
         "dateString": "2026-01-01T08:00:00.000Z"},
    ],
    "share2nightscout-bridge": [
        {"sgv": 118, "date": TIME_MS, "dateString": "2026-01-01T08:00:00.000Z", "trend": 4, "direction": "Flat",
         "device": "share2", "type": "sgv"},
    ],
    "xdripswift": [
        {"_id": "0B6A0B0D1C11", "device": "Dexcom G6", "date": TIME_MS, "dateString": "2026-01-01T08:00:00.000Z",
         "type": "sgv", "sgv": 118, "direction": "Flat", "noise": 1, "sysTime": "2026-01-01T08:00:00.000Z"},
    ],
    "Juggluco": [
        {"type": "sgv", "device": "Libre2", "dateString": "2026-01-01T09:00:00.000+01:00", "date": TIME_MS, "sgv": 118,
         "delta": 0.000, "direction": "Flat", "noise": 1, "filtered": 118000, "unfiltered": 118000, "rssi": 100},
    ],
    "GlucoDataHandler": [
        {"sgv": 118, "date": TIME_MS, "dateString": UTC, "device": "GlucoDataHandler", "type": "sgv", "noise": 1,
         "rssi": 100, "filtered": 118000, "unfiltered": 118000, "direction": "Flat", "delta": 0.000},
    ],
    "one object": {"type": "sgv", "sgv": 118, "date": TIME_MS, "dateString": UTC, "direction": "Flat", "device": "x"},
}  # fmt: skip
"""Of one reading each: 118 mg/dL, Flat, at 9 o'clock in Vienna; beside it what is no sensor's glucose."""

GOLDEN = {
    "subject_id": "anna",
    "time": "2026-01-01T09:00:00+01:00",
    "glucose": 118,
    "unit": "mg/dL",
    "direction": "Flat",
}
"""Of every one of them; device, noise and id are the sender's."""


def forms(token: str, secret: str) -> Mapping[str, dict[str, dict[str, str]]]:
    """Options of a request for each form in which a token or a secret comes, by who sends it."""
    return {
        "SHA-1 of a secret": {"headers": {"api-secret": sha1(secret)}},
        "SHA-1 in capitals": {"headers": {"API-SECRET": sha1(secret).upper()}},
        "SHA-1 of a token": {"headers": {"Api-Secret": sha1(token)}},
        "plain token": {"headers": {"api-secret": token}},
        "token= in the header": {"headers": {"api-secret": f"token={token}"}},
        "token in the query": {"params": {"token": token}},
        "token beside null": {"headers": {"api-secret": "null"}, "params": {"token": token}},
        "tconnectsync": {"headers": {"api-secret": sha1(secret)}, "params": {"api_secret": secret}},
    }


def entry(sgv: Any, time: datetime.datetime, **more: Any) -> dict[str, Any]:
    """An entry as most senders write it."""
    date = int(time.timestamp() * 1000)
    utc = time.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": "sgv", "sgv": sgv, "date": date, "dateString": utc, "device": "share2", **more}
