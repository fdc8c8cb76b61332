"""Our endpoints for GluRPC's clients beside GluRPC itself: the same requests to both, answers compared field by field.

An answer is its status, its content type and every field of its body: a path, a type, a value. Of what a forecast, a
clock or a count of this run gives the type alone counts (`OF_ANY_VALUE`). What differs for a reason is in
`deploy.bench.beside_stated`, with the reason; anything else is a fault of ours.
"""

import asyncio
import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from deploy.bench.beside_probes import HANDLE, Probe, probes
from deploy.bench.beside_stated import Stated, stated_of
from deploy.bench.pipeline import RunningGlucast
from query_api.key_file import SCOPES, Key, add, digest_of, new_token
from schemas.errors import ConfigurationError, UnavailableError

ANSWER_SECONDS, PATIENCE_SECONDS, BETWEEN_SECONDS = 600.0, 60.0, 0.2
FIRST_UPLOAD = "process: Dexcom"
WRONG_KEY = "a key that nobody has"

OF_ANY_VALUE = frozenset({"handle", "error", "message", "cache_size", "persisted_count"})
"""Fields whose values are each side's own: names of series, words for people, counts."""
_OF_HEALTH = frozenset({"status", "models_initialized", "device"})
"""The fields of health whose values are no counts and no times."""

Facts = Mapping[str, str]
"""By path: a type alone, or a type and a value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """Who is asked: a base URL and a key that may do everything."""

    url: str
    key: str


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A field that the two do not have alike; None is a field that is not there."""

    probe: str
    path: str
    theirs: str | None
    ours: str | None
    stated: Stated | None

    def line(self) -> str:
        reason = "NOT STATED" if self.stated is None else self.stated.reason
        return f"{self.probe} | {self.path} | theirs: {_short(self.theirs)} | ours: {_short(self.ours)} | {reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    probes: int
    fields: int
    differences: tuple[Difference, ...]

    @property
    def unstated(self) -> tuple[Difference, ...]:
        return tuple(each for each in self.differences if each.stated is None)

    def lines(self) -> Iterator[str]:
        yield from (each.line() for each in self.differences)
        yield (
            f"{self.probes} requests, {self.fields} fields: {self.fields - len(self.differences)} alike, "
            f"{len(self.differences) - len(self.unstated)} differ as stated, {len(self.unstated)} otherwise"
        )


async def ask_all(side: Side) -> dict[str, Facts]:
    """The facts of each answer by the name of its probe."""
    answers: dict[str, Facts] = {}
    handle = HANDLE
    # GluRPC closes a connection after an error of its own without saying so: each request has one of its own.
    apart = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, limits=apart) as client:
        for probe in probes():
            answer = await _ask(client, side, probe, handle)
            answers[probe.name] = facts_of(probe, answer)
            if probe.name == FIRST_UPLOAD:
                handle = answer.json()["handle"] or HANDLE
    return answers


async def _ask(client: httpx.AsyncClient, side: Side, probe: Probe, handle: str) -> httpx.Response:
    options: dict[str, Any] = {"headers": {}, "params": _with(probe.params, handle)}
    if probe.access != "no key":
        options["headers"]["X-API-Key"] = side.key if probe.access == "right key" else WRONG_KEY
    if probe.file is not None:
        options["files"] = {probe.field: ("export.csv", probe.file, "text/csv")}
    elif isinstance(probe.body, bytes):
        options["content"] = probe.body
        options["headers"]["Content-Type"] = "application/json"
    elif probe.body is not None:
        options["json"] = _with(probe.body, handle)
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = await client.request(probe.method, side.url.rstrip("/") + probe.path, **options)
        done = not probe.patient or answer.status_code != 200 or answer.json()["success"]
        if done or time.monotonic() > until:
            return answer
        await asyncio.sleep(BETWEEN_SECONDS)


def _with(value: Any, handle: str) -> Any:
    if isinstance(value, str):
        return value.replace(HANDLE, handle)
    if isinstance(value, Mapping):
        return {name: _with(each, handle) for name, each in value.items()}
    return [_with(each, handle) for each in value] if isinstance(value, list) else value


def facts_of(probe: Probe, answer: httpx.Response) -> Facts:
    facts = {"status": str(answer.status_code), "content-type": answer.headers.get("content-type", "none")}
    if answer.headers.get("content-type") != "application/json" or not answer.content:
        return facts
    facts |= dict(_fields("body", json.loads(answer.content), any_value=probe.path == "/health"))
    return facts


def _fields(path: str, value: Any, any_value: bool) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value.keys() >= {"data", "layout"}:
        yield path, "figure"
        yield from _figure(path, value)
    elif isinstance(value, dict):
        yield path, "object"
        for name, each in value.items():
            is_any = name in OF_ANY_VALUE or (any_value and name not in _OF_HEALTH)
            yield from _fields(f"{path}.{name}", each, is_any)
    elif isinstance(value, list):
        yield path, f"array of {len(value)}"
        for place, each in enumerate(value):
            yield from _fields(f"{path}[{place}]", each, any_value)
    else:
        kind = _TYPES[type(value)]
        yield path, kind if any_value or value is None else f"{kind} {json.dumps(value, ensure_ascii=False)}"


_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def _figure(path: str, figure: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What whoever draws a Plotly figure needs: its parts, kinds of traces and their axes. How it looks is apart."""
    for name, part in figure.items():
        yield f"{path}.{name}", "array" if isinstance(part, list) else "object"
    traces = figure["data"]
    yield f"{path}.data[].type", ", ".join(sorted({trace["type"] for trace in traces}))
    for axis in "xy":
        yield f"{path}.data[].{axis}", "there" if all(axis in trace for trace in traces) else "not in each"
    for title in ("title", "xaxis.title", "yaxis.title"):
        text: Any = figure["layout"]
        for name in (*title.split("."), "text"):
            text = text.get(name, {})
        yield f"{path}.layout.{title}.text", f"string {json.dumps(text)}"


def compared(theirs: Mapping[str, Facts], ours: Mapping[str, Facts]) -> Comparison:
    """Field by field; both have answered the same probes."""
    if theirs.keys() != ours.keys():
        raise ConfigurationError("the answers are those of other requests: record them again (--record)")
    fields, differences = 0, []
    for probe, known in theirs.items():
        paths = [*known, *(path for path in ours[probe] if path not in known)]
        fields += len(paths)
        for path in paths:
            one, other = known.get(path), ours[probe].get(path)
            if one != other:
                stated = stated_of(probe, path, known, ours[probe])
                differences.append(Difference(probe, path, one, other, stated))
    return Comparison(len(theirs), fields, tuple(differences))


def kept(answers: Mapping[str, Facts]) -> dict[str, dict[str, str]]:
    """As a record keeps them: of texts a hash, for they are GluRPC's."""
    return {probe: {path: _hashed(fact) for path, fact in facts.items()} for probe, facts in answers.items()}


def _hashed(fact: str) -> str:
    kind, _, value = fact.partition(" ")
    return f"string sha256:{hashlib.sha256(value.encode()).hexdigest()[:16]}" if kind == "string" and value else fact


def write_record(path: Path, answers: Mapping[str, Facts]) -> None:
    path.write_text(json.dumps(kept(answers), indent=1, sort_keys=False) + "\n")


def read_record(path: Path) -> dict[str, Facts]:
    found: dict[str, Facts] = json.loads(path.read_text())
    return found


def _short(fact: str | None) -> str:
    return "not there" if fact is None else fact if len(fact) <= 120 else f"{fact[:117]}..."


async def run(
    theirs: Side, ours: Side | None, port: int, record: Path | None, progress: Callable[[str], None]
) -> Comparison:
    """Ask GluRPC, then a glucast that runs, or one that is started for it."""
    await _check_keys(theirs)
    progress(f"asking GluRPC at {theirs.url}")
    known = await ask_all(theirs)
    if record is not None:
        write_record(record, known)
        progress(f"what it answered is in {record}")
    if ours is not None:
        progress(f"asking {ours.url}")
        return compared(known, await ask_all(ours))
    with tempfile.TemporaryDirectory(prefix="glucast-beside-") as directory:
        keys, token = Path(directory) / "keys", new_token("beside")
        add(keys, Key(name="beside", digest=digest_of(token), scopes=SCOPES))
        limits = {"GLUCAST_RATE_LIMIT": "100000/minute", "GLUCAST_CONVERT_RATE_LIMIT": "100000/minute"}
        running = await asyncio.to_thread(
            RunningGlucast, "embedded", port, {"GLUCAST_API_KEYS_FILE": str(keys), **limits}
        )
        try:
            progress(f"asking {running.url}/glurpc")
            return compared(known, await ask_all(Side(f"{running.url}/glurpc", token)))
        finally:
            await asyncio.to_thread(running.stop)


async def _check_keys(theirs: Side) -> None:
    """Raises `UnavailableError` where nobody answers, `ConfigurationError` where keys are not asked for or known."""
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
        address, info = f"{theirs.url.rstrip('/')}/cache_management", {"action": "info"}
        try:
            without = await client.post(address, params=info)
            known = await client.post(address, params=info, headers={"X-API-Key": theirs.key})
        except httpx.TransportError as error:
            raise UnavailableError(
                f"no GluRPC answers at {theirs.url} ({type(error).__name__}): bash deploy/bench/glurpc.sh starts one"
            ) from error
    if (without.status_code, known.status_code) != (401, 200):
        raise ConfigurationError(
            "GluRPC has to ask for keys and to know the one of --their-key: start it with ENABLE_API_KEYS=True, "
            "or by bash deploy/bench/glurpc.sh, whose key is beside"
        )
