"""The file of keys: what is in it, how it changes while it is used, and what a command does to it."""

import datetime
import json
import re
import stat
from pathlib import Path

import pytest

from query_api import auth, key_file
from query_api.auth import Keys
from query_api.key_file import Key, digest_of, new_token, read, sha1, sha256
from schemas.errors import ConfigurationError
from streams import private_file
from tests.kit.keys import key_in, old_key, person_in
from tests.unit.test_cli import glucast


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def found(path: Path, *offered: str) -> str | None:
    key = Keys(path).find(offered)
    return None if key is None else key.name


def test_a_token_has_the_form_of_nightscouts_and_only_a_hash_of_its_sha1_is_stored(path: Path) -> None:
    token = key_in(path, "Anna_Maria-phone")
    assert re.fullmatch(r"annamariap-[0-9a-f]{16}", token)
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["digest"] == sha256(sha1(token))
    for part in (token, token[-16:], sha1(token), sha256(token)):
        assert part not in line
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_is_known_as_itself_and_as_its_sha1(path: Path) -> None:
    token, secret = person_in(path, "anna"), person_in(path, "eve", "correct horse battery")
    for offered in (token, sha1(token), sha1(token).upper()):
        assert (found(path, offered) or "").startswith("anna")
    assert (found(path, sha1(secret)) or "").startswith("eve")
    assert (found(path, "other", secret) or "").startswith("eve")
    for wrong in ("", token[:-1], sha1(sha1(token)), sha256(token), sha256(sha1(token))):
        assert found(path, wrong) is None


def test_old_lines_go_on_and_allow_everything_about_everybody(path: Path) -> None:
    key, digest = old_key()
    path.write_text(f"# who may ask\nclinic {digest.upper()}  # since ever\n")
    person_in(path, "anna")
    first, second = read(path)
    assert (first.name, first.scopes, first.subjects, first.subject) == ("clinic", key_file.SCOPES, None, None)
    assert (second.subjects, second.subject, second.timezone) == (("anna",), "anna", "Europe/Vienna")
    assert found(path, key) == "clinic"
    assert path.read_text().startswith("# who may ask\n")


def test_a_link_stays_a_link_and_the_file_keeps_its_owner(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, given = path.with_name("real"), []
    real.touch(mode=0o644)
    path.symlink_to(real)
    monkeypatch.setattr(private_file.os, "fchown", lambda _, *owner: given.append(owner))
    key_in(path, "one")
    assert (path.is_symlink(), stat.S_IMODE(real.stat().st_mode)) == (True, 0o600)
    assert given == [(real.stat().st_uid, real.stat().st_gid)]

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(private_file.os, "fchown", refused)
    with pytest.raises(ConfigurationError, match="another user"):
        key_in(path, "two")
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".keys.")] == [".keys.lock"]
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".real.")] == []


def test_an_expired_key_is_none(path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    past = person_in(path, "anna", expires=now - datetime.timedelta(seconds=1))
    future = person_in(path, "eve", expires=now + datetime.timedelta(hours=1))
    assert found(path, past) is None
    assert found(path, future) is not None


def test_a_running_process_follows_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CHECK_SECONDS", 0.0)
    first = key_in(path, "one")
    keys = Keys(path)
    second = new_token("one")
    key_file.replace(path, "one", digest_of(second))
    assert (keys.find([first]), (keys.find([second]) or read(path)[0]).name) == (None, "one")
    key_file.remove(path, "one")
    assert keys.find([second]) is None
    assert path.read_text() == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"timezone": "Europe/Nowhere"},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"subjects": []},
        {"subjects": ["a b"]},
        {"digest": "0" * 63},
        {"name": "a b"},
        {"expires": "2027-01-01T00:00:00"},
        {"what": "else"},
    ],
    ids=str,
)
def test_a_line_that_is_no_key_is_refused_and_not_repeated(path: Path, changes: dict[str, object]) -> None:
    whole = {"name": "anna", "digest": "ab" * 32, "subjects": ["anna"], "timezone": "UTC"}
    path.write_text(json.dumps(whole | changes) + "\n")
    with pytest.raises(ConfigurationError, match="line 1 of the file of API keys") as error:
        read(path)
    assert "abab" not in str(error.value)


def test_secrets_that_are_short_are_refused() -> None:
    for secret in ("", "eleven char", "twelve chars\n"):
        with pytest.raises(ConfigurationError, match="at least 12"):
            digest_of(secret)
    assert digest_of("twelve chars") == sha256(sha1("twelve chars"))


def test_names_are_given_once_and_unknown_ones_are_told(path: Path) -> None:
    key_in(path, "one")
    with pytest.raises(ConfigurationError, match="already"):
        key_in(path, "one")
    for change in (lambda: key_file.remove(path, "two"), lambda: key_file.replace(path, "two", "ab" * 32)):
        with pytest.raises(ConfigurationError, match="no key named two"):
            change()
    assert [key.name for key in read(path)] == ["one"]


def test_two_people_do_not_have_one_secret(path: Path) -> None:
    """A parent may choose the same for two children: by it all that came for one of them became the other's."""
    secret, other = person_in(path, "anna", "correct horse battery", name="anna"), person_in(path, "ben", name="ben")
    lines = path.read_text()
    for change in (
        lambda: person_in(path, "eve", secret, name="eve"),
        lambda: key_file.replace(path, "ben", digest_of(secret)),
    ):
        with pytest.raises(ConfigurationError, match="the key named anna has this secret already"):
            change()
    assert path.read_text() == lines
    assert (found(path, secret), found(path, other)) == ("anna", "ben")
    assert key_file.replace(path, "anna", digest_of(secret)).name == "anna", "its own again is no other's"


def test_a_secret_of_two_people_in_a_file_of_before_is_neither_s(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, other = person_in(path, "anna", "correct horse battery", name="anna"), person_in(path, "eve", name="eve")
    line = path.read_text().splitlines()[0]
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    for ben in ({}, {"expires": past.isoformat()}):
        written = json.loads(line) | {"name": "ben", "subjects": ["ben"]} | ben
        path.write_text(f"{line}\n{json.dumps(written)}\n" + path.read_text().splitlines()[-1] + "\n")
        assert found(path, sha1(secret)) is None
    assert found(path, secret, other) is None, "not another one that came beside it"
    assert found(path, other) == "eve"
    assert re.search(r"one secret.*anna.*ben", capsys.readouterr().out)
    path.write_text(f"{line}\n" + line.replace('"name":"anna"', '"name":"of-anna"') + "\n")
    assert found(path, secret) == "of-anna", "of one person it is hers by whichever name"


def test_of_two_keys_in_a_request_the_first_form_counts_and_not_the_order_of_the_file(path: Path) -> None:
    """An app that shows its secret and a token that only reads could upload or not, as the file had them."""
    secret, token = person_in(path, "anna", "correct horse battery", name="up"), person_in(path, "anna", name="reads")
    assert (found(path, sha1(secret), token), found(path, token, sha1(secret))) == ("up", "reads")
    assert found(path, "wrong", token) == "reads"


def test_a_line_without_a_zone_is_of_no_site() -> None:
    assert Key(name="a", digest="0" * 64, subjects=("anna",)).subject is None
    assert Key(name="a", digest="0" * 64, subjects=("anna", "eve"), timezone="UTC").subject is None


def test_the_commands_make_show_renew_and_revoke(path: Path) -> None:
    use = {"GLUCAST_API_KEYS_FILE": str(path)}
    person = ("--subject", "anna", "--timezone", "Europe/Vienna", "--expires", "2099-01-01", "--device", "left arm",
              "--rate-limit", "600/minute", "--body-rate-limit", "9/hour")  # fmt: skip
    made = glucast("keys", "add", "phone", *person, **use)
    assert (made.returncode, "not shown again" in made.stderr) == (0, True)
    token = made.stdout.strip()
    assert found(path, token) == "phone"
    shown = glucast("keys", "list", **use).stdout
    assert re.split(r"\s{2,}", shown.strip()) == [
        "phone", "read,write", "anna", "Europe/Vienna", "until 2099-01-01T00:00+00:00", "device left arm",
        "600/minute", "9/hour KiB",
    ]  # fmt: skip
    renewed = glucast("keys", "rotate", "phone", **use).stdout.strip()
    assert (found(path, token), found(path, renewed)) == (None, "phone")
    assert read(path)[0].subject == "anna"
    assert glucast("keys", "revoke", "phone", "--file", str(path)).returncode == 0
    assert found(path, renewed) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "phone", "--subject", "anna"), "--timezone"),
        (("add", "phone", "--subject", "a b", "--timezone", "UTC"), "subjects"),
        (("add", "phone", "--timezone", "Mars"), "timezone"),
        (("add", "phone", "--scope", "all"), "scopes"),
        (("add", "phone", "--expires", "soon"), "--expires"),
        (("add", "phone", "--rate-limit", "0/minute"), "rate_limit"),
        (("add", "phone", "--body-rate-limit", "9/minute;9/hour"), "body_rate_limit"),
        (("revoke", "phone"), "cannot be read"),
    ],
)
def test_what_a_command_cannot_do_is_said_in_a_line(path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = glucast("keys", *arguments, GLUCAST_API_KEYS_FILE=str(path))
    assert (done.returncode, done.stderr.count("\n"), words in done.stderr) == (2, 1, True), done.stderr
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be changed"):
        key_in(tmp_path / "file" / "keys", "one")
