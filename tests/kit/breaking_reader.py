"""The process that reads files, with a parser that files break as they say.

For tests of what its parent makes of that: put `program` in the place of Python.
"""

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

from agents.ingest.files import reader, unified_file
from agents.ingest.files.unified_file import Converted, UnifiedFile
from schemas.upload import ProcessingWarnings

PYTHON = sys.executable
READ = UnifiedFile(
    format_name="any", timezone="UTC", start_seconds=0, centi=[10_000], interpolated_points=[],
    warnings=ProcessingWarnings(),
)  # fmt: skip


def program(home: Path) -> str:
    """A program that starts this one as `Readers` starts Python."""
    script = home / "breaking-reader"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(PYTHON)} -m tests.kit.breaking_reader "$3"\n')
    script.chmod(0o700)
    return str(script)


def _break(raw: bytes) -> None:
    what = raw.decode()
    if what == "asleep":
        time.sleep(3600)
    elif what == "slow":  # as on a machine that others use: it computes a little now and then
        for _ in range(8):
            began = time.process_time()
            while time.process_time() < began + 0.03:
                pass
            time.sleep(0.2)
    elif what == "exit":
        os._exit(0)
    elif what.startswith("waits"):  # so many times for its end, told by its id in a file
        _, times, path = what.split(" ", 2)
        begun = Path(path)
        if begun.read_text().count(".") < int(times):
            with begun.open("a") as file:
                file.write(f"{os.getpid()}.")
            while True:
                time.process_time()
    elif what.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[what])


def _unify(raw: bytes, *_: object) -> UnifiedFile:
    _break(raw if raw != reader.warm_up_file() else b"")
    return READ


def _convert(raw: bytes) -> Converted:
    _break(raw)
    return Converted("", [])


if __name__ == "__main__":
    unified_file.unify_file, unified_file.to_unified_csv = _unify, _convert  # type: ignore[assignment]
    reader.main(json.loads(sys.argv[1]))
