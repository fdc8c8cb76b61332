"""The file of webhooks: private, whole, and of no secret in anything that is said of it."""

import datetime
import json
import stat
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from streams.notify import webhook_file
from streams.notify.registry import Registry
from streams.notify.webhook_file import new_endpoint, new_secret, read
from tests.kit.alerts import NOW, endpoint
from tests.unit.test_cli import glucast

SECRET_PATH = "https://hooks.example.org:8443/services/T0SECRET?key=s3cret"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "webhooks"


def test_what_is_added_is_read_again_and_the_file_is_private(path: Path) -> None:
    added = endpoint(url=SECRET_PATH, subject_id="anna")
    webhook_file.add(path, added)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(path) == [added]
    assert added.destination == "https://hooks.example.org:8443"
    assert "SECRET" not in repr(added) + str(added) + added.public(None, NOW).to_json().decode()


def test_a_file_that_others_may_read_is_refused(path: Path) -> None:
    webhook_file.add(path, endpoint())
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="run chmod 600"):
        read(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"url": "ftp://example.org/"}, "begins with https://"),
        ({"url": "https:///path"}, "begins with https://"),
        ({"url": "https://example.org:0/"}, "begins with https://"),
        ({"url": "https://example.org:99999/"}, "the url is none"),
        ({"url": "https://example.org/a b"}, "no spaces"),
        ({"url": "https://example.org/\n"}, "no spaces"),
        ({"url": "https://me:hunter2@example.org/"}, "no user or password"),
        ({"secret": None}, "24 to 64 bytes"),
        ({"secret": "whsec_c2hvcnQ="}, "24 to 64 bytes"),
        ({"secret": new_secret().removeprefix("whsec_")}, "24 to 64 bytes"),
        ({"events": []}, "at least 1"),
        ({"events": ["alert", "alert"]}, "stands twice"),
        ({"channel": "ntfy", "secret": None}, "no message for a person"),
        ({"name": "a/b"}, "name"),
        ({"subject_id": "a b"}, "subject_id"),
        ({"color": "red"}, "color"),
    ],
)
def test_what_cannot_work_is_said_without_its_value(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        endpoint(**changes)
    assert "hunter2" not in str(caught.value)


def test_a_line_that_is_none_is_named_by_its_number_alone(path: Path) -> None:
    webhook_file.add(path, endpoint())
    path.write_text(path.read_text() + '# a remark\n\n{"url": "https://example.org/s3cret"}\n')
    with pytest.raises(ConfigurationError, match="line 4 of the file of webhooks") as caught:
        read(path)
    assert "s3cret" not in str(caught.value)


def test_names_are_unique_and_what_is_removed_is_gone_and_no_more(path: Path) -> None:
    for name in ("one", "two"):
        webhook_file.add(path, endpoint(name))
    with pytest.raises(ConfigurationError, match="already"):
        webhook_file.add(path, endpoint("one"))
    webhook_file.remove(path, "one")
    assert [each.name for each in read(path)] == ["two"]
    with pytest.raises(ConfigurationError, match="no webhook named one"):
        webhook_file.remove(path, "one")


def test_the_command_makes_lists_enables_and_removes_one(path: Path) -> None:
    options = ("--file", str(path))
    done = glucast("webhooks", "add", "home", SECRET_PATH, "--subject", "anna", "--events", "alert,outcome", *options)
    assert done.returncode == 0, done.stderr
    secret = done.stdout.strip()
    assert secret.startswith("whsec_")
    assert json.loads(path.read_text())["secret"] == secret
    listed = glucast("webhooks", "list", *options).stdout
    assert listed.split() == ["home", "webhook", "https://hooks.example.org:8443", "anna", "alert,outcome"]
    before = read(path)[0].begins_at
    assert glucast("webhooks", "enable", "home", *options).returncode == 0
    assert read(path)[0].begins_at > before
    assert glucast("webhooks", "remove", "home", *options).returncode == 0
    assert read(path) == []
    token = path.with_name("token")
    token.write_text("a secret of a site\n")
    token.chmod(0o600)
    site = ("webhooks", "add", "site", "https://anna.example.org", "--nightscout", "--token-file", str(token), *options)
    assert "one person's" in glucast(*site).stderr
    assert glucast(*site, "--subject", "anna").stdout == "", "its secret is told nowhere"
    assert [(each.channel, each.events) for each in read(path)] == [("nightscout", ("forecast",))]
    refused = glucast("webhooks", "add", "home", "http://me:pw@example.org", *options)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no user or password" in refused.stderr


# how webhooks do


def hours(count: float) -> datetime.datetime:
    return NOW + datetime.timedelta(hours=count)


def test_a_webhook_is_disabled_after_failing_all_day_and_begins_anew_when_it_is_enabled() -> None:
    registry, one = Registry(24), endpoint()
    registry.load([one], NOW)
    first = registry.failed("home", "it answers 500", NOW)["home"]
    assert first is not None
    assert (first.failing_since, first.disabled_at) == (NOW, None)
    assert registry.failed("home", "it answers 500", hours(0.05)) == {}
    for quarter in range(1, 96):  # no more than a quarter of an hour goes by between two attempts
        assert all(
            each and each.disabled_at is None for each in registry.failed("home", "no", hours(quarter / 4)).values()
        )
    last = registry.failed("home", "it answers 500", hours(24))["home"]
    assert last is not None
    assert last.disabled_at == hours(24)
    assert "nothing could be delivered since 2026-03-01 12:00 UTC: it answers 500" in (last.reason or "")
    assert registry.active() == []
    assert registry.failed("home", "again", hours(25)) == {}
    changes = registry.load([one.model_copy(update={"added_at": hours(26)})], hours(26))
    again = changes["home"]
    assert again is not None
    assert (again.failing_since, again.disabled_at, again.reason) == (None, None, None)
    assert len(registry.active()) == 1


def test_single_failures_with_nothing_to_send_between_them_disable_nobody() -> None:
    """The first one's alert ended by itself; the next is of an urgent low, and was dropped with the webhook."""
    registry = Registry(24)
    registry.load([endpoint()], NOW)
    registry.failed("home", "it answers 502", NOW)
    again = registry.failed("home", "it answers 502", hours(25))["home"]
    assert again is not None
    assert (again.failing_since, again.failed_at, again.disabled_at) == (hours(25), hours(25), None)
    assert len(registry.active()) == 1
    well = registry.succeeded("home", hours(26))["home"]
    assert well is not None
    assert (well.failing_since, well.failed_at, well.reason) == (None, None, None)


def test_a_success_ends_the_failing() -> None:
    registry = Registry(24)
    registry.load([endpoint()], NOW)
    registry.failed("home", "it hung up", NOW)
    well = registry.succeeded("home", hours(1))["home"]
    assert well is not None
    assert (well.failing_since, well.reason) == (None, None)
    assert registry.succeeded("home", hours(2)) == {}


def test_what_comes_back_of_ones_own_words_changes_nothing() -> None:
    registry = Registry(24)
    registry.load([endpoint()], NOW)
    failing = registry.failed("home", "it answers 500", hours(1))["home"]
    registry.disabled("home", "it answers 410: it wants nothing more", hours(2))
    registry.follow("home", failing)
    assert registry.active() == []
    again = registry.states["home"].model_copy(update={"disabled_at": None, "updated_at": hours(3)})
    registry.follow("home", again)
    assert len(registry.active()) == 1


def test_a_restart_goes_on_with_what_is_known_and_deletes_what_is_no_more() -> None:
    registry, one = Registry(24), endpoint()
    failing = one.public(None, hours(-20)).model_copy(
        update={"failing_since": hours(-20), "failed_at": hours(3.8), "reason": "it answers 500"}
    )
    registry.follow("home", failing)
    registry.follow("gone", failing.model_copy(update={"webhook_id": "gone"}))
    assert registry.load([one], NOW) == {"gone": None}
    disabled = registry.failed("home", "it answers 500", hours(4))["home"]
    assert disabled is not None
    assert disabled.disabled_at == hours(4)


def test_a_file_of_too_many_webhooks_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_file, "MOST_WEBHOOKS", 1)
    webhook_file.add(path, endpoint("one"))
    with pytest.raises(ConfigurationError, match="which is the most"):
        webhook_file.add(path, endpoint("two"))


def test_a_secret_is_new_each_time() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
    assert new_endpoint({**json.loads(json.dumps({"name": "x", "url": "https://a.b"})), "secret": new_secret(),
                         "added_at": NOW}).events == ("alert",)  # fmt: skip
