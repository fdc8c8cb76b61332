"""API keys: a file of named SHA-256 digests, read again when it changes. A key itself is stored nowhere.

One key a line, ``name sha256-in-hex``; ``#`` begins a comment. Removing a line revokes its key:

    printf %s "$KEY" | sha256sum    # the digest of a key
"""

import hashlib
import hmac
import re
import secrets
import time
from pathlib import Path

import structlog

from schemas.errors import ConfigurationError

log = structlog.get_logger("query_api.auth")

_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([0-9a-fA-F]{64})")
CHECK_SECONDS = 1.0


class Keys:
    """Who a key belongs to. A file that becomes unreadable keeps the keys that were last read from it."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigurationError` where the file is missing or a line is not a name and a digest."""
        self._path = path
        self._stamp = self._stat()
        self._digests = _read(path)
        self._checked = time.monotonic()

    def name_of(self, key: str) -> str | None:
        """The name of a key; None for one that is not known. Every digest is compared, in constant time."""
        self._reload()
        digest = hashlib.sha256(key.encode()).digest()
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(known, digest):
                found = name
        return found

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
                self._digests, self._stamp = _read(self._path), stamp
                log.info("API keys were read again", keys=len(self._digests))
        except ConfigurationError as error:
            log.error("API keys were not read again, the earlier ones stay", reason=str(error))


def _read(path: Path) -> list[tuple[str, bytes]]:
    digests = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError("the file of API keys cannot be read: set GLUCAST_API_KEYS_FILE") from None
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise ConfigurationError(f"line {number} of the file of API keys is not `name sha256-in-hex`")
        digests.append((match[1], bytes.fromhex(match[2])))
    return digests


def new_key() -> tuple[str, str]:
    """A fresh key and its digest in hexadecimal."""
    key = secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()
