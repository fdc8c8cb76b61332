"""The endpoints for GluRPC's clients beside what GluRPC 0.6.3 answered (`glucast bench beside --record`)."""

from pathlib import Path

import pytest

from deploy.bench import beside
from deploy.bench.beside_stated import STATED
from query_api.key_file import SCOPES
from schemas.errors import ConfigurationError
from streams.settings import Settings
from tests.kit.keys import key_in
from tests.kit.query import listening
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.sources import ROOT

ANSWERS = ROOT / "tests/golden/glurpc-0.6.3.json"
HEALTH = ("health", "health: in the end")


async def test_every_field_is_as_glurpc_has_it_or_differs_for_a_stated_reason(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    key = key_in(keys, "clinic", scopes=list(SCOPES))
    fast = {"rate_limit": "100000/minute", "convert_rate_limit": "100000/minute"}
    guarded = settings.model_copy(update={"api_keys_file": keys, **fast})
    async with listening(guarded, tmp_path) as url:
        ours = beside.kept(await beside.ask_all(beside.Side(f"{url}/glurpc", key)))
    found = beside.compared(beside.read_record(ANSWERS), ours)
    unstated = {(each.probe, each.path): each.line() for each in found.unstated}
    no_worker = {(probe, f"body.{field}") for probe in HEALTH for field in ("status", "models_initialized")}
    assert unstated.keys() == no_worker, [*unstated.values()]  # none infers for these tests, and health says so
    assert {each.stated for each in found.differences} - {None} == {*STATED}  # none of them is stated without need
    assert found.probes > 150
    assert found.fields > 1500


def test_a_difference_that_is_not_stated_is_found() -> None:
    """In status, type, value, what is missing, and what is more; a text counts by its hash too."""
    theirs = {"cache: info": {"status": "200", "body.a": 'string "x"', "body.b": "null", "body.c": "integer"}}
    ours = {"cache: info": {"status": "500", "body.a": 'string "y"', "body.b": "integer", "body.d": "null"}}
    for one, other in ((theirs, ours), (beside.kept(theirs), beside.kept(ours))):
        found = beside.compared(one, other)
        assert (found.probes, found.fields, len(found.unstated)) == (1, 5, 5)
        assert [each.path for each in found.differences] == ["status", "body.a", "body.b", "body.c", "body.d"]
    assert beside.compared(beside.kept(theirs), beside.kept(theirs)).differences == ()
    with pytest.raises(ConfigurationError, match="--record"):
        beside.compared(theirs, {})
