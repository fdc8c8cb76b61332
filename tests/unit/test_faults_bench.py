"""The bench of faults: which acts there are, and how it counts what clients saw."""

import asyncio
import dataclasses
import datetime
import math
import signal
from collections.abc import Iterator

import pytest
from aiohttp import web
from typer.testing import CliRunner

from deploy.bench import faults, faults_load
from deploy.bench.faults import (
    CLUSTER_ACTS,
    INGEST_ACTS,
    MACHINE_ACTS,
    PIPELINE_ACTS,
    FaultReport,
    FaultRun,
    Seen,
    acts_of,
    print_report,
)
from deploy.bench.faults_acts import act_of
from deploy.bench.faults_audit import Audit, _unlike
from deploy.bench.faults_watch import Person, Watch, longest_pause
from deploy.cli.bench import app
from schemas.errors import ConfigurationError
from streams.settings import Settings
from tests.kit.listening import listening


def test_the_load_of_a_fault_run_takes_everybody_below_70_and_above_180_and_that_of_a_stopwatch_nobody() -> None:
    period = math.ceil(40 * math.pi)
    for place in range(5):
        wide = [faults_load.glucose_of(place, number, faults_load.WIDE_SWING_MGDL) for number in range(period)]
        plain = [faults_load.reading_of("anna", place, number).glucose for number in range(period)]
        assert min(wide) < 60
        assert max(wide) > 200
        assert min(plain) >= 80
        assert max(plain) <= 180


def test_every_default_act_is_known() -> None:
    for name in (*INGEST_ACTS, *PIPELINE_ACTS, *MACHINE_ACTS, "join:api", "join:notify"):
        assert act_of(name, 1).name == name
    for name in CLUSTER_ACTS:
        assert act_of(name, 3).name == name


@pytest.mark.parametrize(
    "name", ["kill", "kill:me", "kill:calc:5", "broker:kill:2", "broker:burn", "clock:api:soon", ""]
)
def test_an_act_that_is_none_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown act .*known: join"):
        act_of(name, 1)


@pytest.mark.parametrize("name", ["broker:disk:1", "broker:roll"])
def test_what_takes_the_only_copy_away_needs_several_brokers(name: str) -> None:
    with pytest.raises(ConfigurationError, match="needs --brokers 3"):
        act_of(name, 1)


def test_seconds_stand_behind_the_role() -> None:
    assert (act_of("clock:api:-86400", 1).seconds, act_of("cut:calc", 1).seconds) == (-86400, 5)


def test_a_pause_counts_where_it_reaches_into_the_stretch() -> None:
    moments = [0.0, 1.0, 5.0, 6.0, 20.0]
    assert longest_pause(moments, 0, 7) == 14.0
    assert longest_pause(moments, 2, 4) == 4.0
    assert longest_pause(moments, 21, 30) == 0.0


def test_service_is_back_when_every_partition_has_shown_a_reading_that_was_sent_since() -> None:
    watch = Watch(Settings(partitions=2), "results")
    sent = {("anna", 1): 9.0, ("anna", 2): 11.0, ("ben", 1): 10.5}
    watch.arrivals = [(12.0, 0, ("anna", 1)), (13.0, 0, ("anna", 2))]
    assert watch.back(10.0, sent) == float("inf")
    watch.arrivals.append((14.5, 1, ("ben", 1)))
    assert watch.back(10.0, sent) == 4.5


def test_a_wait_ends_with_the_first_that_was_seen_of_a_reading() -> None:
    watch = Watch(Settings(partitions=2), "results")
    watch.arrivals = [(12.0, 0, ("anna", 1)), (13.0, 0, ("anna", 1)), (11.5, 1, ("ben", 1)), (9.0, 1, ("eve", 1))]
    assert watch.waits({("anna", 1): 9.0, ("anna", 2): 11.0, ("ben", 1): 10.5}) == [1.0, 3.0]


def test_a_set_stands_for_its_acts() -> None:
    assert acts_of("kill:calc,machine,broker:stop") == ("kill:calc", *MACHINE_ACTS, "broker:stop")
    assert acts_of("cluster") == CLUSTER_ACTS


def test_a_record_that_says_something_else_is_named_with_what_differs() -> None:
    first = {"chart_id": "a", "median_mgdl": [1.0], "calibration": None}
    assert _unlike("chart", "a" * 64, first | {"calibration": 1}, first) == "chart aaaaaaaaaaaa: calibration"
    assert _unlike("outcome", "b", first) == "outcome b: chart_id, median_mgdl, calibration"


def report(*backs: float, limit: float = 10.0) -> FaultReport:
    """Of a run that has lost nothing; its acts were back after so many seconds."""
    nothing = {field.name: 0 for field in dataclasses.fields(Audit) if field.name not in ("told", "unlike")}
    seen = [Seen(f"broker:kill:{number}", 0, 1, 2, limit, back=back) for number, back in enumerate(backs, 1)]
    return FaultReport(Audit(**nothing, unlike=()), seen, 0, {})


def test_an_act_on_a_broker_has_another_limit_than_one_on_a_role() -> None:
    plan = FaultRun(acts=(), rate=1, whole_pipeline=False, back_seconds=7, role_back_seconds=20)
    assert (plan.limit_of(act_of("broker:full", 1)), plan.limit_of(act_of("full:ingest", 1))) == (7, 20)


@pytest.mark.parametrize(
    ("back", "said"),
    [
        (10.1, "LATE: broker:kill:2: all has to be back within 10 s, and was after 10.1 s"),
        (math.inf, "LATE: broker:kill:2: all has to be back within 10 s, and was never"),
        (math.nan, "LATE: broker:kill:2: all has to be back within 10 s, and was never"),
    ],
)
def test_a_run_whose_service_came_back_late_or_never_is_not_clean(back: float, said: str) -> None:
    late, lines = report(9.9, back), list[str]()
    print_report(late, lines.append)
    assert (late.clean, late.whole) == (False, True)
    assert [line for line in lines if "LATE" in line] == [said]
    assert report(9.9, 10.0).clean


@pytest.fixture
def _signals() -> Iterator[None]:
    """The command takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(("back", "code"), [(3.0, 0), (30.0, 1)])
def test_the_command_ends_with_one_where_an_act_was_late(
    back: float, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[FaultRun]()

    async def run(plan: FaultRun) -> FaultReport:
        asked.append(plan)
        return report(back, limit=plan.back_seconds)

    monkeypatch.setattr(faults, "run", run)
    options = ["--back-seconds", "12", "--role-back-seconds", "25", "--not-followed"]
    done = CliRunner().invoke(app, ["faults", "--acts", "machine", *options])
    assert done.exit_code == code, done.output
    assert (asked[0].acts, asked[0].back_seconds, asked[0].role_back_seconds) == (MACHINE_ACTS, 12, 25)
    assert not asked[0].is_followed


async def test_what_a_person_had_under_way_when_the_load_ends_counts_as_sent() -> None:
    """It may arrive whatever became of its answer, and then more is there than was sent."""
    got: set[str] = set()
    arrived, gate, statuses = asyncio.Event(), asyncio.Event(), [503, 202]

    async def take(request: web.Request) -> web.Response:
        got.update(each["time"] for each in await request.json())
        arrived.set()
        await gate.wait()
        return web.json_response({}, status=statuses.pop(0))

    app = web.Application()
    app.router.add_post("/subjects/{subject}/readings", take)
    async with listening(app) as url:
        person = Person(url, sent := {})
        run = asyncio.create_task(person.run())
        await arrived.wait()
        person.stop()
        gate.set()
        await asyncio.wait_for(run, 60)
    assert not statuses, "what was refused is sent again"
    assert {moment for _, moment in sent} == {int(datetime.datetime.fromisoformat(each).timestamp()) for each in got}
