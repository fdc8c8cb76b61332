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
        """The key that these texts name, the first that is one or the SHA-1 of one. None where none is known or it has
        expired, and where several people have the same: what one of them sends must not become another's.

        Every digest is compared with every text, in constant time.
        """
        self._reload()
        now = datetime.datetime.now(datetime.UTC)
        for keys in [self._keys_of(text) for text in offered]:
            if valid := [key for key in keys if not key.has_expired(now)]:
                return None if len(_people(keys)) > 1 else valid[-1]
        return None

    def _keys_of(self, text: str) -> list[Key]:
        wanted = [bytes.fromhex(digest) for digest in _digests(text)]
        return [key for key, digest in self._keys if sum(hmac.compare_digest(digest, each) for each in wanted)]

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
    keys = read(path)
    of_secret: dict[str, list[Key]] = {}
    for key in keys:
        of_secret.setdefault(key.digest, []).append(key)
    for shared in of_secret.values():
        if len(_people(shared)) > 1:
            log.error("keys of different people have one secret, and none of them is taken: give each its own",
                      names=[key.name for key in shared])  # fmt: skip
    return [(key, bytes.fromhex(key.digest)) for key in keys]


def _people(keys: Iterable[Key]) -> set[frozenset[str]]:
    """For whom they are; those for everybody are left out."""
    return {frozenset(key.subjects) for key in keys if key.subjects}


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
