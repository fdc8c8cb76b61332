"""Who did what to whose data: one line of the log for each use of a route that changes, gives away or takes away.

    query_api.audit  action=erase caller=clinic subject=3f9c… outcome=done status=200

A route declares it (`query_api.access`), the gate writes it, also where it refuses. Of a person stands there a name
that only this installation can make: an HMAC with a key of its own, which lies beside the tables. ``glucast subject
audit-name`` tells it.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from fastapi import Request
from starlette.types import Scope

from schemas.errors import ConfigurationError
from streams.private_file import alone, read_secret_lines, write

log = structlog.get_logger("query_api.audit")

FILE = "audit.key"
_FACTS = "glucast_audit"
_WHAT = "the key of the audit log"


def note(request: Request, **facts: str) -> None:
    """What the line of this request says besides."""
    request.scope[_FACTS] = {**request.scope.get(_FACTS, {}), **facts}


class Audit:
    """Writes the lines of one application."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._key: bytes | None = None

    def tell(self, scope: Scope, action: str, in_path: Mapping[str, Any], status: int) -> None:
        """One use of a route, and what came of it."""
        facts = dict(scope.get(_FACTS, {}))
        if (subject_id := in_path.get("subject_id")) is not None:
            facts["subject"] = self._name_of(str(subject_id))
        outcome = "done" if status < 400 else "refused" if status < 500 else "failed"
        log.info(
            "audit", action=action, caller=scope.get("caller", "anonymous"), outcome=outcome, status=status, **facts
        )

    def _name_of(self, subject_id: str) -> str:
        if self._key is None:
            try:
                self._key = audit_key(self._state_dir)
            except ConfigurationError as error:  # the request must not suffer
                log.warning("names in the audit log hold until the end of this process", reason=str(error))
                self._key = secrets.token_bytes(32)
        return audit_name(self._key, subject_id)


def audit_key(state_dir: Path) -> bytes:
    """The installation's own, made where there is none yet. Raises `ConfigurationError` where that cannot be."""
    path = state_dir / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{_WHAT} cannot be written at {path} ({error.strerror})") from None
    with alone(path, _WHAT):
        if not path.exists():
            write(path, [secrets.token_hex(32)], _WHAT)
    try:
        return bytes.fromhex("".join(read_secret_lines(path, _WHAT)))
    except ValueError:
        raise ConfigurationError(f"{_WHAT} at {path} is damaged: remove it, and the next is made") from None


def known_audit_key(state_dir: Path) -> bytes:
    """That of an API. Raises `ConfigurationError` where there is none: names by a fresh one are in no log."""
    if not (state_dir / FILE).exists():
        raise ConfigurationError(
            f"no key of an audit log is in {state_dir}: set GLUCAST_STATE_DIR to that of the API whose log is read"
        )
    return audit_key(state_dir)


def audit_name(key: bytes, subject_id: str) -> str:
    """How the log calls a subject."""
    return hmac.new(key, subject_id.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:16]
