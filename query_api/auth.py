"""Who a key belongs to, by the file of keys, which is read again when it changes."""

import datetime
import hmac
import time
from collections.abc import Iterable
from pathlib import Path

import structlog

from query_api.key_file import Key, read, sha1, sha256
from schemas.errors import ConfigurationError

log = structlog.get_logger("query_api.auth")
audit = structlog.get_logger("query_api.audit")

CHECK_SECONDS = 1.0


class Keys:
    """The keys of a file. One that becomes unreadable keeps the keys that were last read from it."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigurationError` where the file is missing or a line is no key."""
        self._path = path
        self._stamp = self._stat()
        self._keys = _known(path)
        self._checked = time.monotonic()

    def find(self, offered: Iterable[str]) -> Key | None:
        """The key that one of these texts is, or whose SHA-1 it is; None where none is known, or it has expired.

        Every digest is compared with every text, in constant time.
        """
        self._reload()
        wanted = [bytes.fromhex(digest) for text in offered for digest in _digests(text)]
        found = None
        for key, digest in self._keys:
            for each in wanted:
                if hmac.compare_digest(digest, each):
                    found = key
        return None if found is None or found.has_expired(datetime.datetime.now(datetime.UTC)) else found

    def holds(self, key: Key) -> bool:
        """Whether a key that was found before still is in the file, unchanged, and has not expired."""
        self._reload()
        is_known = any(known == key for known, _ in self._keys)
        return is_known and not key.has_expired(datetime.datetime.now(datetime.UTC))

    def _stat(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError as error:
            raise ConfigurationError(
                f"the file of API keys cannot be read ({error.strerror}): set GLUCAST_API_KEYS_FILE"
            ) from None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _reload(self) -> None:
        if time.monotonic() - self._checked < CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        try:
            stamp = self._stat()
            if stamp != self._stamp:
                before, self._keys, self._stamp = self._keys, _known(self._path), stamp
                log.info("API keys were read again", keys=len(self._keys))
                _tell(before, self._keys)
        except ConfigurationError as error:
            log.error("API keys were not read again, the earlier ones stay", reason=str(error))


def _known(path: Path) -> list[tuple[Key, bytes]]:
    return [(key, bytes.fromhex(key.digest)) for key in read(path)]


def _tell(before: list[tuple[Key, bytes]], after: list[tuple[Key, bytes]]) -> None:
    """Which keys came and went, by name, whoever changed the file and how."""
    earlier, now = ({key.name: key for key, _ in keys} for keys in (before, after))
    audit.info(
        "audit",
        action="keys",
        added=[name for name in now if name not in earlier],
        ended=[name for name in earlier if name not in now],
        changed=[name for name, key in now.items() if earlier.get(name, key) != key],
    )


def _digests(text: str) -> tuple[str, ...]:
    """Of the text itself, which is an old key or a SHA-1, and of its SHA-1, because it is a token or a secret."""
    return sha256(text), sha256(text.lower()), sha256(sha1(text))
