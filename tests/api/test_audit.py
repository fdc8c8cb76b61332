"""The audit log: one line for each use of what changes, gives away or takes away, and nobody's name in it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.routing import iter_route_contexts
from structlog.testing import LogCapture

from query_api import auth
from query_api.access import declared_access
from query_api.app import create_app
from query_api.audit import Audit, audit_key, audit_name, known_audit_key
from query_api.auth import Keys
from query_api.problems import is_nightscout
from schemas.errors import ConfigurationError
from streams.settings import Settings
from tests.kit.charts import STEP
from tests.kit.keys import key_in, person_in
from tests.kit.told_api import now, told_api, told_forecast, told_reading

AUDITED = {
    ("DELETE", "/subjects/{subject_id}"): "erase",
    ("DELETE", "/subjects/{subject_id}/window"): "reset",
    ("GET", "/subjects/{subject_id}/export"): "export",
    ("PUT", "/subjects/{subject_id}/alerts/settings"): "alert settings",
    ("POST", "/subjects/{subject_id}/alerts/snooze"): "snooze",
    ("PUT", "/subjects/{subject_id}/sources"): "sources",
    ("POST", "/cache_management"): "cache",
    ("POST", "/glurpc/cache_management"): "cache",
}


@pytest.fixture
def lines() -> list[Any]:
    """What is logged, of the audit alone."""
    return []


@pytest.fixture(autouse=True)
def capture(lines: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Loggers are made anew, because those that were used before keep where they wrote."""
    for module in ("query_api.audit.log", "query_api.auth.audit"):
        log = structlog.wrap_logger(None, processors=[_Kept(lines)])
        monkeypatch.setattr(module, log)


class _Kept(LogCapture):
    def __init__(self, lines: list[Any]) -> None:
        super().__init__()
        self.entries = lines


def test_all_that_only_admin_may_do_is_audited() -> None:
    found: dict[tuple[str, str | None], str] = {}
    admin: set[tuple[str, str | None]] = set()
    for route in iter_route_contexts(create_app(Settings()).routes):
        declared = declared_access(route.endpoint)
        assert declared is not None
        for method in route.methods or ():
            if declared.audit is not None:
                found[method, route.path] = declared.audit
            if declared.scope == "admin" and declared.audience == "key" and not is_nightscout(route.path or ""):
                admin.add((method, route.path))
    assert found == AUDITED
    assert admin <= found.keys()


async def test_a_line_says_who_did_what_to_whom_and_what_came_of_it(tmp_path: Path, lines: list[Any]) -> None:
    file, state = tmp_path / "keys", tmp_path / "state"
    admin, anna = key_in(file, "clinic"), person_in(file, "anna", name="phone")
    settings = Settings(partitions=2, api_keys_file=file, state_dir=state)
    told = [told_reading("anna", now() - STEP), told_forecast("anna", now())]
    async with told_api(settings, tmp_path / "query", *told) as client:
        asks: list[tuple[str, str, str | None, int, str, str]] = [
            ("GET", "/subjects/anna/export", admin, 200, "export", "done"),
            ("GET", "/subjects/anna/export", anna, 403, "export", "refused"),
            ("DELETE", "/subjects/anna", None, 401, "erase", "refused"),
            ("DELETE", "/subjects/anna", admin, 503, "erase", "failed"),  # there is no Kafka here
            ("DELETE", "/subjects/eve/window", admin, 503, "reset", "failed"),
            ("PUT", "/subjects/eve/sources", anna, 403, "sources", "refused"),
        ]
        for method, path, key, status, action, outcome in asks:
            lines.clear()
            headers = {"x-api-key": key} if key else {}
            assert (await client.request(method, path, headers=headers)).status_code == status
            (line,) = lines
            subject = audit_name(audit_key(state), path.split("/")[2])
            caller = {admin: "clinic", anna: "phone", None: "anonymous"}[key]
            assert line == {
                "event": "audit", "log_level": "info", "action": action, "caller": caller, "outcome": outcome,
                "status": status, "subject": subject,
            }  # fmt: skip
        lines.clear()
        handle, headers = "ab" * 32, {"x-api-key": admin}
        for action in ("info", "delete"):
            await client.post("/cache_management", params={"action": action, "handle": handle}, headers=headers)
        assert [(line["action"], line["cache"], line["status"]) for line in lines] == [
            ("cache", "info", 200), ("cache", "delete", 503),
        ]  # fmt: skip
        assert handle not in str(lines)
        lines.clear()
        assert (await client.get("/subjects", headers=headers)).status_code == 200
        assert lines == []


def test_a_name_is_the_installation_s_own(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    names = [audit_name(audit_key(state), "anna") for state in (one, one, other)]
    assert names[0] == names[1] != names[2]
    assert (one / "audit.key").stat().st_mode & 0o777 == 0o600
    assert audit_name(audit_key(one), "ann") != names[0]
    told = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "subject", "audit-name", "anna"],
        capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "GLUCAST_STATE_DIR": str(one)},
    )  # fmt: skip
    assert told.stdout.strip() == names[0]
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(ConfigurationError, match="GLUCAST_STATE_DIR"):  # a name in no log: "nobody did anything"
        known_audit_key(elsewhere)
    assert not elsewhere.exists()


def test_a_key_that_cannot_be_kept_stops_no_request(tmp_path: Path, lines: list[Any]) -> None:
    (tmp_path / "state").write_text("a file")
    audit = Audit(tmp_path / "state")
    for _ in "12":
        audit.tell({}, "erase", {"subject_id": "anna"}, 200)
    warned, first, second = lines
    assert (warned["log_level"], first["subject"]) == ("warning", second["subject"])
    assert "anna" not in str(lines)


def test_keys_that_come_and_go_are_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[Any]
) -> None:
    monkeypatch.setattr(auth, "CHECK_SECONDS", 0.0)
    file = tmp_path / "keys"
    secret = key_in(file, "stays")
    key_in(file, "goes")
    keys = Keys(file)
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "goes" not in line) + "\n")
    comes = key_in(file, "comes")
    assert keys.find([comes]) is not None
    (line,) = lines
    assert (line["action"], line["added"], line["ended"], line["changed"]) == ("keys", ["comes"], ["goes"], [])
    assert secret not in str(lines)
