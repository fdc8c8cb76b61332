"""A process that reads one file after the other for its parent: ``python -m agents.ingest.files.reader LIMITS``.

What a file makes of a parser ends here: memory and computing time are bounded by the kernel, and the answer is plain
data. A question or an answer is a frame: two lengths, a head in JSON, a body of bytes. The process ends with its
parent, whose end of the pipe is then closed, even in the middle of a file.
"""

import json
import os
import resource
import select
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from schemas.errors import RejectedError, UnknownFormatError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from agents.ingest.files.unified_file import UnifiedFile

LENGTHS = struct.Struct(">II")
MOST_ANSWER_BYTES = 64 << 20
"""Of an answer's body: a file in the unified format is at most four times as long as it was."""
GROWN_BYTES, OVERGROWN_BYTES = 200 << 20, 320 << 20
"""A process that is larger after a file gives its place to a fresh one, since it gives nothing back to the system: when
it rests, as after an export of months (223 MB), and at once. To load anew costs seven times as much as such a file."""
MEMORY = "memory"

WARM_UP_POINTS, WARM_UP_GAP = 120, 60
"""Of the file that is read before the first one, so that all which reading takes has been loaded: a window and more,
with a gap in it that is filled."""


def frame(head: dict[str, Any], body: bytes = b"") -> bytes:
    """A question or an answer as bytes."""
    text = json.dumps(head).encode()
    return LENGTHS.pack(len(text), len(body)) + text + body


def unified_file_json() -> "TypeAdapter[UnifiedFile]":
    """How a `UnifiedFile` is written and, with every field checked, read."""
    from pydantic import TypeAdapter

    from agents.ingest.files.unified_file import UnifiedFile

    return TypeAdapter(UnifiedFile)


def warm_up_file() -> bytes:
    """In the unified format, a reading every five minutes but for one gap."""
    minutes = (5 * place + (10 if place >= WARM_UP_GAP else 0) for place in range(WARM_UP_POINTS))
    times = (f"2026-01-01T{minute // 60:02d}:{minute % 60:02d}:00.000" for minute in minutes)
    head = (
        "sequence_id,original_datetime,original_glucose,quality,event_type,datetime,glucose,carbs,insulin_slow,"
        "insulin_fast,exercise"
    )
    return "\n".join([head, *(f"0,{time},100.0,0,EGV_READ,{time},100.0,,,," for time in times), ""]).encode()


def main(limits: dict[str, int]) -> None:
    """Answer until nobody asks any more. `limits`: megabytes of data, and seconds of computing a file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    questions, answers = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _answer({"task": "unify", "timezone": "UTC", "minimum": 540, "maximum": 1080}, warm_up_file())
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)  # what a parser says quotes the file
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # and so does a core
    resource.setrlimit(resource.RLIMIT_DATA, (limits["megabytes"] << 20,) * 2)
    _put(answers, frame({}))
    while lengths := questions.read(LENGTHS.size):
        head_length, body_length = LENGTHS.unpack(lengths)
        head, raw = json.loads(questions.read(head_length)), questions.read(body_length)
        _allow_seconds(limits["seconds"])
        answer, body = _answer(head, raw)
        if answer.get("code") == UnknownFormatError.code and _peak_bytes() > limits["megabytes"] << 19:
            answer = {"code": MEMORY}  # libraries tell of memory in many ways, which look like a damaged file
        resident = _resident_bytes()
        last = resident > OVERGROWN_BYTES
        _put(answers, frame(answer | {"last": last, "grown": resident > GROWN_BYTES}, body))
        if last:
            return


def _answer(question: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
    """What became of a file: its series or its conversion, or why there is none."""
    from agents.ingest.files.unified_file import Rules, to_unified_csv, unify_file

    try:
        if question["task"] == "convert":
            converted = to_unified_csv(raw)
            return {"notes": converted.notes}, converted.text.encode()
        rules = Rules(question["minimum"], question["maximum"])
        return {}, unified_file_json().dump_json(unify_file(raw, question["timezone"], rules))
    except RejectedError as error:
        return {"code": error.code, "reason": str(error)}, b""
    except MemoryError:
        return {"code": MEMORY}, b""


def _allow_seconds(seconds: int) -> None:
    """The kernel ends the process when it has computed for longer from now on."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds + 1, resource.RLIM_INFINITY))


def _resident_bytes() -> int:
    # Not getrusage, which begins with what the parent had when it started this process.
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak_bytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


def _put(answers: BinaryIO, answer: bytes) -> None:
    answers.write(answer)
    answers.flush()


def _end_with_parent() -> None:
    hangs_up = select.poll()
    hangs_up.register(0, 0)  # nothing but the closing of the other end, whatever is still to be read
    hangs_up.poll()
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
