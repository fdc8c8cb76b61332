"""Small disks, wrong clocks and networks that can be cut, for one process each: what a fault run needs of the machine.

Disks and networks need root, clocks a C compiler; `missing` says what is not there.
"""

import contextlib
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

from schemas.errors import ConfigurationError

HOST_ADDRESS, WORKER_ADDRESS = "10.213.77.1", "10.213.77.2"
"""Of the network between the machine and a worker that can be cut off."""
_SHIFT_SOURCE = Path(__file__).with_name("clock_shift.c")
_SHIFT_BYTES = 8


def missing(verb: str) -> str | None:
    """Why acts of this verb cannot be performed on this machine; None where they can."""
    if verb in ("full", "cut") and os.geteuid() != 0:
        return "it needs root"
    needed = {"full": ("mount", "umount"), "cut": ("ip",), "clock": ("cc",)}.get(verb, ())
    absent = [program for program in needed if shutil.which(program) is None]
    return f"it needs the program {absent[0]}" if absent else None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise ConfigurationError(f"{' '.join(command)} failed: {done.stderr.strip()[-400:]}")


class SmallDisk:
    """A file system in memory that can be filled up."""

    def __init__(self, path: Path, mebibytes: int) -> None:
        self.path = path
        path.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "glucast-faults", str(path))
        self._filler = path / "filler"

    def fill(self) -> None:
        """No byte more fits."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def clear(self) -> None:
        """There is room again."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        _run("umount", "-l", str(self.path))


class WrongClock:
    """The wall clock of one process: what `shift` adds to it, seconds. `environment` makes it that of a new process."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        library, self._file = directory / "clock_shift.so", directory / "shift"
        _run("cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_SHIFT_SOURCE), "-ldl")
        self._file.write_bytes(bytes(_SHIFT_BYTES))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(self._file)}

    def shift(self, seconds: int) -> None:
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), _SHIFT_BYTES) as shared:
            shared[:] = seconds.to_bytes(_SHIFT_BYTES, sys.byteorder, signed=True)


class Cable:
    """A network namespace with one connection to the machine, which can be cut. `prefix` runs a command behind it."""

    def __init__(self) -> None:
        name = f"glucast-{os.getpid()}"
        self._inside, self._name = f"gl{os.getpid()}i", name
        self._outside = f"gl{os.getpid()}o"
        _run("ip", "netns", "add", name)
        try:
            _run("ip", "link", "add", self._outside, "type", "veth", "peer", "name", self._inside, "netns", name)
            _run("ip", "addr", "add", f"{HOST_ADDRESS}/30", "dev", self._outside)
            _run("ip", "link", "set", self._outside, "up")
            for arguments in (
                ("addr", "add", f"{WORKER_ADDRESS}/30", "dev", self._inside),
                ("link", "set", self._inside, "up"),
                ("link", "set", "lo", "up"),
            ):
                _run("ip", "-n", name, *arguments)
        except ConfigurationError:
            self.close()
            raise
        self.prefix = ("ip", "netns", "exec", name)

    def cut(self) -> None:
        """Packets vanish: nobody is told."""
        _run("ip", "link", "set", self._outside, "down")

    def mend(self) -> None:
        _run("ip", "link", "set", self._outside, "up")

    def close(self) -> None:
        _run("ip", "netns", "delete", self._name)
