"""What several processes say, on one terminal: every line behind the name of its process."""

import asyncio
import os
import sys
from typing import TextIO

_COLOURS = (36, 33, 35, 32, 34, 31, 96, 93)
_LONGEST_LINE = 4000


class LogLines:
    """Prints ``name | text``; names are aligned and, on a terminal, coloured (NO_COLOR turns that off)."""

    def __init__(self, names: list[str], out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._width = max(map(len, names), default=0)
        self._codes = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
        self._colourful = self._out.isatty() and "NO_COLOR" not in os.environ

    def say(self, name: str, text: str) -> None:
        """Print one line of this process."""
        prefix = f"{name:<{self._width}} |"
        if self._colourful:
            prefix = f"\x1b[{self._codes.get(name, 0)}m{prefix}\x1b[0m"
        try:
            self._out.write(f"{prefix} {text[:_LONGEST_LINE]}\n")
            self._out.flush()
        except (BrokenPipeError, ValueError):
            pass  # nobody reads any more; the roles go on

    async def follow(self, name: str, stream: asyncio.StreamReader) -> None:
        """Print the lines of a process until it closes its output."""
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # longer than the reader's buffer: asyncio has dropped what it held
            if not line:
                return
            if text := line.decode(errors="replace").rstrip():
                self.say(name, text)
