"""How far each person has been pulled, on disk: names of people and times, no glucose and no secret."""

import datetime
import json
import os
from pathlib import Path

from schemas.errors import ConfigurationError


class Bookmarks:
    """One file a service. What it lacks begins anew: a reading that is sent again changes nothing."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigurationError` for a directory that cannot be made."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigurationError(f"{path.parent} cannot be made ({error.strerror})") from None
        self._times = _read(path)

    def of(self, subject_id: str) -> datetime.datetime | None:
        """The time of the newest reading that Kafka has confirmed."""
        return self._times.get(subject_id)

    def set(self, subject_id: str, time: datetime.datetime) -> None:
        """Written whole, and then put in the place of the one before."""
        known = self._times.get(subject_id)
        if known is not None and time <= known:
            return
        self._times[subject_id] = time
        text = json.dumps({name: each.isoformat() for name, each in sorted(self._times.items())}, indent=1)
        written = self._path.with_suffix(".new")
        handle = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(self._path)


def _read(path: Path) -> dict[str, datetime.datetime]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        times = {str(name): datetime.datetime.fromisoformat(text) for name, text in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {name: time for name, time in times.items() if time.tzinfo is not None}
