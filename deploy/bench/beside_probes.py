"""What GluRPC and our endpoints for its clients are asked, in this order: all six, and all that can be wrong."""

import base64
import dataclasses
import datetime
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from deploy.bench.fuzz_files import Rows, dexcom, libre, unified

HANDLE = "<handle>"
"""In a probe: the handle that whoever is asked gave for the first upload."""
SAMPLES = 14
"""Of a file of 121 points."""
FIRST = datetime.datetime(2024, 3, 14, 22, 3)
STEP = datetime.timedelta(minutes=5)

Access = Literal["right key", "no key", "wrong key"]


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """A request. `patient`: it is repeated while the answer has ``success: false``, as work may still be going on."""

    name: str
    path: str
    body: Any = None
    method: str = "POST"
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    file: bytes | None = None
    field: str = "file"
    access: Access = "right key"
    patient: bool = False


def glucose(count: int, level: float = 140.0) -> Rows:
    """Readings five minutes apart."""
    return [(FIRST + place * STEP, round(level + 40 * math.sin(place / 9))) for place in range(count)]


def _without(rows: Rows, first: int, count: int) -> Rows:
    return [*rows[:first], *rows[first + count :]]


WHOLE = glucose(121)
FILES: Mapping[str, bytes] = {
    "Dexcom": dexcom(WHOLE),
    "Libre": libre(WHOLE),
    "unified": unified(WHOLE),
    "Dexcom in mmol/L": dexcom(WHOLE, "mmol/L"),
    "15 minutes missing": dexcom(_without(WHOLE, 60, 2)),
    "3 hours missing at the beginning": dexcom(_without(glucose(200), 20, 36)),
    "a time twice": dexcom([*WHOLE[:60], WHOLE[59], *WHOLE[60:]]),
    "longer than is used": dexcom(glucose(320)),
    "108 points": dexcom(glucose(108)),
}
UNUSABLE: Mapping[str, bytes] = {
    "107 points": dexcom(glucose(107)),
    "5 hours": dexcom(glucose(60)),
    "3 hours missing in the middle": dexcom(_without(WHOLE, 60, 36)),
    "no export": b"not a glucose file\n" * 50,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(128, 227)),
    "a head alone": dexcom([]),
    "one byte": b"x",
}
QUESTIONS: Mapping[str, Any] = {
    "nothing": {},
    "an empty file": {"csv_base64": ""},
    "a number for a file": {"csv_base64": 7},
    "null for a file": {"csv_base64": None},
    "no base64": {"csv_base64": "@@@"},
    "base64 cut off": {"csv_base64": base64.b64encode(FILES["Dexcom"]).decode()[:-3]},
    "no object": [],
    "text": "csv",
    "no JSON": b"{",
    "no bytes": b"",
    "perhaps for force_calculate": {"csv_base64": "eA==", "force_calculate": "perhaps"},
    "null for force_calculate": {"csv_base64": "eA==", "force_calculate": None},
}


def probes() -> Iterator[Probe]:
    """Each name is there once. What changes what is stored comes last."""
    yield Probe("health", "/health", method="GET", access="no key")
    yield from _conversions()
    yield from _uploads()
    yield from _plots()
    yield from _quick_plots()
    yield from _without_access()
    yield from _elsewhere()
    yield from _cache()
    yield Probe("health: in the end", "/health", method="GET", access="no key")


def upload(raw: bytes, **more: Any) -> dict[str, Any]:
    return {"csv_base64": base64.b64encode(raw).decode(), **more}


def _conversions() -> Iterator[Probe]:
    path = "/convert_to_unified"
    for name, raw in {**FILES, **UNUSABLE}.items():
        yield Probe(f"convert: {name}", path, file=raw, access="no key")
    yield Probe("convert: an empty file", path, file=b"", access="no key")
    yield Probe("convert: another field", path, file=FILES["Dexcom"], field="csv", access="no key")
    yield Probe("convert: no form", path, upload(FILES["Dexcom"]), access="no key")
    yield Probe("convert: nothing", path, access="no key")


def _uploads() -> Iterator[Probe]:
    path = "/process_unified"
    for name, raw in {**FILES, **UNUSABLE}.items():
        yield Probe(f"process: {name}", path, upload(raw))
    yield Probe("process: again", path, upload(FILES["Dexcom"]))
    yield Probe("process: by force", path, upload(FILES["Dexcom"], force_calculate=True))
    yield Probe("process: by force as text", path, upload(FILES["Dexcom"], force_calculate="true"))
    yield Probe("process: by force as a number", path, upload(FILES["Dexcom"], force_calculate=0))
    yield Probe("process: with a field more", path, upload(FILES["Dexcom"], timezone="UTC"))
    for name, body in QUESTIONS.items():
        yield Probe(f"process: {name}", path, body)


def _plots() -> Iterator[Probe]:
    path = "/draw_a_plot"
    for index in (0, -3, -(SAMPLES - 1), -3.0, "-3", False):
        yield Probe(f"draw: {index!r}", path, {"handle": HANDLE, "index": index})
    yield Probe("draw: by force", path, {"handle": HANDLE, "index": -2, "force_calculate": True})
    yield Probe("draw: by force as text", path, {"handle": HANDLE, "index": -2, "force_calculate": "yes"})
    yield Probe("draw: with a field more", path, {"handle": HANDLE, "index": -2, "unit": "mmol/L"})
    for wrong in (-SAMPLES, -100000, 1, 12, -1.5, "x", "", None, True, 10**30, -(10**30), [0]):
        yield Probe(f"draw: {wrong!r} for an index", path, {"handle": HANDLE, "index": wrong})
    for name, handle in {
        "an unknown": "0" * 64, "8 characters": "8 digits", "7 characters": "7 digit", "65 characters": "0" * 65,
        "a path": "../../../etc/passwd", "a number": 12345678, "null": None, "no": "",
    }.items():  # fmt: skip
        yield Probe(f"draw: {name} for a handle", path, {"handle": handle, "index": 0})
    yield Probe("draw: without an index", path, {"handle": HANDLE})
    yield Probe("draw: without a handle", path, {"index": 0})
    yield Probe("draw: nothing", path, {})
    yield Probe("draw: no object", path, [])
    yield Probe("draw: no JSON", path, b"{")
    yield Probe("draw: two things wrong", path, {"handle": "x", "index": 1})
    yield Probe("draw: force perhaps", path, {"handle": HANDLE, "index": 0, "force_calculate": "perhaps"})


def _quick_plots() -> Iterator[Probe]:
    path = "/quick_plot"
    for name in ("Dexcom", "unified", "15 minutes missing", "108 points"):
        yield Probe(f"quick: {name}", path, upload(FILES[name]))
    yield Probe("quick: by force", path, upload(FILES["Libre"], force_calculate=True))
    for name, raw in UNUSABLE.items():
        yield Probe(f"quick: {name}", path, upload(raw))
    for name, body in QUESTIONS.items():
        yield Probe(f"quick: {name}", path, body)


def _without_access() -> Iterator[Probe]:
    bodies: Mapping[str, Any] = {
        "/process_unified": upload(FILES["Dexcom"]),
        "/quick_plot": upload(FILES["Dexcom"]),
        "/draw_a_plot": {"handle": HANDLE, "index": 0},
    }
    without: tuple[Access, ...] = ("no key", "wrong key")
    for access in without:
        for path, body in bodies.items():
            yield Probe(f"{access}: {path}", path, body, access=access)
        yield Probe(f"{access}: /cache_management", "/cache_management", params={"action": "info"}, access=access)
    yield Probe("no key: an invalid question", "/draw_a_plot", {"handle": "x", "index": 1}, access="no key")
    yield Probe("no key: no JSON", "/draw_a_plot", b"{", access="no key")
    yield Probe("no key: no action", "/cache_management", access="no key")


def _elsewhere() -> Iterator[Probe]:
    yield Probe("elsewhere: no such path", "/nothing", method="GET")
    yield Probe("elsewhere: GET of a plot", "/draw_a_plot", method="GET")
    yield Probe("elsewhere: PUT of an upload", "/process_unified", {}, method="PUT")
    yield Probe("elsewhere: POST of health", "/health")
    yield Probe("elsewhere: HEAD of health", "/health", method="HEAD")


def _cache() -> Iterator[Probe]:
    path = "/cache_management"

    def managed(name: str, action: str, patient: bool = False, **more: str) -> Probe:
        return Probe(f"cache: {name}", path, params={"action": action, **more}, patient=patient)

    yield managed("info", "info")
    yield managed("info of a handle", "info", handle=HANDLE)
    yield managed("save", "save", patient=True)
    yield managed("save a handle", "save", patient=True, handle=HANDLE)
    yield managed("load", "load", handle=HANDLE)
    for action in ("load", "delete"):
        yield managed(f"{action} an unknown handle", action, handle="0" * 64)
        yield managed(f"{action} a path", action, handle="../../../etc/passwd")
        yield managed(f"{action} without a handle", action)
        yield managed(f"{action} with an empty handle", action, handle="")
    yield managed("save an unknown handle", "save", handle="0" * 64)
    yield managed("an unknown action", "explode")
    yield managed("an empty action", "")
    yield managed("an action in capitals", "INFO")
    yield Probe("cache: no action", path)
    yield Probe("cache: an action in the body", path, {"action": "info"})
    yield managed("delete", "delete", handle=HANDLE)
    yield Probe("draw: what was deleted", "/draw_a_plot", {"handle": HANDLE, "index": 0})
    yield managed("delete again", "delete", handle=HANDLE)
    yield managed("load what was deleted", "load", handle=HANDLE)
    yield managed("flush", "flush")
    yield managed("info after it", "info")
