"""calc and chart_commands: charts into table and topic, and no chart of what was deleted."""

import dataclasses
import hashlib
import json
from collections import Counter

import pytest

from agents.work import Measurement, Message
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError, MessageTooLargeError
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import from_row
from schemas.lanes import LANES, Lane
from schemas.metrics import FORECAST_ERROR_MGDL, FORECAST_INSIDE
from schemas.outcome import RequestOutcome
from schemas.score import TargetScore
from schemas.tables import FAN_CHART_TABLES, SCORES_TABLE
from schemas.topics import FAN_CHARTS, FORECASTS, REQUEST_OUTCOMES, SCORES
from streams.settings import Settings
from tests.kit.forecasts import LIVE
from tests.kit.workbench import NOW_MS, Workbench, built, of

CALC, COMMANDS = built("calc"), built("chart_commands")
HANDLE = "e" * 64
MODEL = "d" * 16
SAMPLE = dataclasses.replace(
    LIVE, kind="sample", series_key="tail", subject_id=None, handle=HANDLE, index=-3, began_ms=NOW_MS, demand_id="d1"
)
SLOT = (1_710_000_000 - 7200) // 300


def command_of(action: str, up_to_ms: int = NOW_MS, **fields: object) -> bytes:
    return CacheCommand(action=action, command_id="c1", up_to_ms=up_to_ms, **fields).to_json()  # type: ignore[arg-type]


async def test_a_chart_goes_into_the_table_and_onto_the_topic() -> None:
    bench = Workbench()
    for forecast, key in ((LIVE, f"subject/ada/{SLOT % 288}/{MODEL}"), (SAMPLE, f"handle/{HANDLE}/-3/{MODEL}")):
        (value,) = of(FAN_CHARTS, await bench.run(CALC, forecast.to_arrow()))
        assert from_row(bench.rows(FAN_CHART_TABLES["backfill"])[key]) == FanChart.from_json(value)
    chart = FanChart.from_json(value)
    assert (chart.handle, chart.index, chart.demand_id, chart.series_key) == (HANDLE, -3, "d1", "tail")


async def test_delivered_again_it_is_the_same_chart() -> None:
    bench = Workbench()
    first = await bench.run(CALC, SAMPLE.to_arrow())
    rows = dict(bench.rows(FAN_CHART_TABLES["backfill"]))
    assert await bench.run(CALC, SAMPLE.to_arrow()) == first
    assert len(of(FAN_CHARTS, first)) == len(rows) == 1
    assert bench.rows(FAN_CHART_TABLES["backfill"]) == rows


@pytest.mark.parametrize(
    "broken",
    [
        {"began_ms": None}, {"began_ms": -1}, {"timezone": None}, {"end_seconds": 2**62}, {"truth_centi_mgdl": [-1]},
        {"past_centi_mgdl": [12000] * 95}, {"samples_mgdl": [120.0] * 119 + [1e30]}, {"residual_sd_mgdl": [1e9] * 12},
        {"warnings": [None]},
    ],
)  # fmt: skip
async def test_a_forecast_that_cannot_be_is_told_and_leaves_nothing(broken: dict[str, object]) -> None:
    bench = Workbench()
    sends = await bench.run(CALC, dataclasses.replace(SAMPLE, **broken).to_arrow())
    (outcome,) = [RequestOutcome.from_json(value) for value in of(REQUEST_OUTCOMES, sends)]
    assert outcome.status == "implausible"
    assert len(sends) == 1
    assert bench.rows(FAN_CHART_TABLES["backfill"]) == {}


@pytest.mark.parametrize(
    "broken", [{"kind": "other"}, {"index": None}, {"series_key": None}, {"series_key": "a/b"}, {"request_id": "a\0"}]
)
async def test_a_forecast_that_does_not_say_whose_it_is_is_malformed(broken: dict[str, object]) -> None:
    with pytest.raises(MalformedRecordError):
        await Workbench().run(CALC, dataclasses.replace(SAMPLE, **broken).to_arrow())


@pytest.mark.parametrize("text", ["[" * 40_000, '{"levels": [], "scores": []}', "[]", "NaN"])
async def test_a_calibration_that_is_none_fails_its_request_in_words(text: str) -> None:
    sends = await Workbench().run(CALC, dataclasses.replace(SAMPLE, calibration_json=text).to_arrow())
    (outcome,) = [RequestOutcome.from_json(value) for value in of(REQUEST_OUTCOMES, sends)]
    assert (outcome.status, "calibration" in outcome.reason) == ("failed", True)


async def test_a_chart_of_endless_warnings_is_too_large_in_words() -> None:
    with pytest.raises(MessageTooLargeError, match="warnings"):
        await Workbench().run(CALC, dataclasses.replace(SAMPLE, warnings=["w" * 300_000]).to_arrow())


async def test_a_restored_chart_of_glucose_that_cannot_be_is_malformed() -> None:
    bench = Workbench()
    (value,) = of(FAN_CHARTS, await bench.run(CALC, SAMPLE.to_arrow()))
    good = command_of("restore", chart=FanChart.from_json(value))
    for broken in ({"median_mgdl": [1e6] * 12}, {"past_mgdl": []}, {"p_below_54": [2.0] * 12}):
        document = json.loads(good)
        document["chart"] |= broken
        with pytest.raises(MalformedRecordError):
            await bench.run(COMMANDS, json.dumps(document).encode())


async def test_the_same_computation_for_two_people_is_two_charts() -> None:
    bench = Workbench()
    ids = set()
    for subject in ("ada", "eve"):
        forecast = dataclasses.replace(LIVE, series_key=subject, subject_id=subject)
        (value,) = of(FAN_CHARTS, await bench.run(CALC, forecast.to_arrow()))
        ids.add(FanChart.from_json(value).chart_id)
    assert len(ids) == 2
    assert len(bench.rows(FAN_CHART_TABLES["backfill"])) == 2


async def test_a_backlog_does_not_put_an_old_chart_over_a_newer_one() -> None:
    bench = Workbench()
    await bench.run(CALC, LIVE.to_arrow())
    before = dict(bench.rows(FAN_CHART_TABLES["backfill"]))
    yesterday = dataclasses.replace(LIVE, end_seconds=LIVE.end_seconds - 288 * 300)
    assert of(FAN_CHARTS, await bench.run(CALC, yesterday.to_arrow()))
    assert dict(bench.rows(FAN_CHART_TABLES["backfill"])) == before


@pytest.mark.parametrize("lanes", [("live", "backfill"), ("backfill", "live"), ("live", "live")])
@pytest.mark.parametrize("later", [(1, 0), (0, 1)], ids=["later", "in the same millisecond"])
async def test_a_forecast_of_a_corrected_reading_stays_whichever_lane_is_first(
    lanes: tuple[Lane, Lane], later: tuple[int, int]
) -> None:
    before = dataclasses.replace(LIVE, began_ms=1_710_000_000_000, revision=7)
    corrected = dataclasses.replace(
        LIVE, began_ms=before.began_ms + later[0], revision=7 + later[1], past_centi_mgdl=[14000] * 96,
        forecast_id="9" * 64, input_hash="8" * 64,
    )  # fmt: skip
    bench = Workbench()
    for forecast, lane in zip((corrected, before), lanes, strict=True):
        assert of(FAN_CHARTS, await bench.run(CALC, forecast.to_arrow(), topic=FORECASTS[lane].name))
    rows = [from_row(row) for table in FAN_CHART_TABLES.values() for row in bench.rows(table).values()]
    assert [row.forecast_id for row in rows] == [corrected.forecast_id]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"samples_mgdl": [float("inf")] * 120}, "failed"),
        ({"samples_mgdl": []}, "failed"),
        ({"timezone": "Mars"}, "implausible"),
        ({"samples_mgdl": [908.0] * 120}, "implausible"),
        ({"samples_mgdl": [-50.0] * 120}, "implausible"),
    ],
)
async def test_numbers_that_make_no_chart_end_in_an_outcome(changes: dict[str, object], status: str) -> None:
    sends = await Workbench().run(CALC, dataclasses.replace(SAMPLE, **changes).to_arrow())  # type: ignore[arg-type]
    (value,) = of(REQUEST_OUTCOMES, sends)
    outcome = RequestOutcome.from_json(value)
    assert (outcome.status, outcome.request_id, outcome.demand_id) == (status, SAMPLE.request_id, "d1")
    assert len(sends) == 1


@pytest.mark.parametrize("value", [None, b"", b"poison", b"\x00" * 300])
async def test_poison_is_a_dead_letter(value: bytes | None) -> None:
    for step in (CALC, COMMANDS):
        with pytest.raises(MalformedRecordError):
            await Workbench().run(step, value)


@pytest.mark.parametrize("action", ["delete", "flush"])
async def test_deleted_charts_go_and_late_results_are_dropped(action: str) -> None:
    bench = Workbench()
    await bench.run(CALC, SAMPLE.to_arrow())
    await bench.run(CALC, LIVE.to_arrow())
    assert await bench.run(COMMANDS, command_of(action, handle=HANDLE)) == []
    kinds = {key.split("/")[0] for key in bench.rows(FAN_CHART_TABLES["backfill"])}
    assert kinds - {"gone-since"} == {"subject", "gone"}
    (value,) = of(REQUEST_OUTCOMES, await bench.run(CALC, SAMPLE.to_arrow()))
    outcome = RequestOutcome.from_json(value)
    assert (outcome.status, outcome.handle, outcome.index) == ("dropped", HANDLE, -3)
    assert of(FAN_CHARTS, await bench.run(CALC, LIVE.to_arrow()))  # subjects are not touched
    fresh = dataclasses.replace(SAMPLE, began_ms=NOW_MS + 1)
    assert of(FAN_CHARTS, await bench.run(CALC, fresh.to_arrow()))


async def test_only_what_began_before_the_command_goes() -> None:
    bench = Workbench()
    other = dataclasses.replace(SAMPLE, handle="f" * 64)
    newer = dataclasses.replace(SAMPLE, index=0, began_ms=NOW_MS + 5)
    for forecast in (SAMPLE, other, newer):
        await bench.run(CALC, forecast.to_arrow())
    await bench.run(COMMANDS, command_of("delete", handle=HANDLE))
    assert {key for key in bench.rows(FAN_CHART_TABLES["backfill"]) if key.startswith("handle")} == {
        f"handle/{'f' * 64}/-3/{MODEL}",
        f"handle/{HANDLE}/0/{MODEL}",
    }


async def test_markers_do_not_pile_up() -> None:
    bench = Workbench()
    for number in range(5):
        then = NOW_MS + number * 10 * 86_400_000
        await bench.run(COMMANDS, command_of("delete", then, handle=f"{number:064x}"), timestamp_ms=then)
    assert len(bench.rows(FAN_CHART_TABLES["backfill"])) <= 2 * 2  # the last ones, and their order in time
    then = NOW_MS + 60 * 86_400_000
    await bench.run(COMMANDS, command_of("flush", then), timestamp_ms=then)
    assert set(bench.rows(FAN_CHART_TABLES["backfill"])) == {"gone/*"}


async def test_a_saved_chart_comes_back() -> None:
    bench = Workbench()
    (value,) = of(FAN_CHARTS, await bench.run(CALC, SAMPLE.to_arrow()))
    await bench.run(COMMANDS, command_of("delete", handle=HANDLE))
    await bench.run(COMMANDS, command_of("restore", chart=FanChart.from_json(value)))
    assert from_row(bench.rows(FAN_CHART_TABLES["interactive"])[f"handle/{HANDLE}/-3/{MODEL}"]) == FanChart.from_json(
        value
    )


async def test_a_command_names_what() -> None:
    for action in ("delete", "restore"):
        with pytest.raises(MalformedRecordError):
            await Workbench().run(COMMANDS, command_of(action))


async def test_a_chart_lies_in_the_table_of_its_lane_and_stays_in_the_higher_ones() -> None:
    bench = Workbench()
    places: dict[Lane, list[str]] = {}

    async def charted(lane: Lane, model: str) -> None:
        forecast = dataclasses.replace(SAMPLE, model_fingerprint=model * 64)
        await bench.run(CALC, forecast.to_arrow(), topic=FORECASTS[lane].name)
        places.update({each: [key[-1] for key in bench.rows(FAN_CHART_TABLES[each])] for each in LANES})

    await charted("backfill", "1")
    assert places == {"interactive": [], "live": [], "backfill": ["1"]}
    await charted("interactive", "1")
    assert places == {"interactive": ["1"], "live": [], "backfill": []}
    await charted("backfill", "2")
    assert places == {"interactive": ["2"], "live": [], "backfill": []}


async def test_what_is_told_ahead_gives_the_same_charts() -> None:
    messages = [SAMPLE.to_arrow(), b"poison", LIVE.to_arrow(), dataclasses.replace(LIVE, samples_mgdl=[]).to_arrow()]
    alone, together = Workbench(), Workbench()
    told = built("calc")
    told.function.prepare(  # type: ignore[attr-defined]
        [
            Message(topic="t", offset=place, key=None, value=value, timestamp_ms=NOW_MS)
            for place, value in enumerate(messages)
        ]
    )
    for place, value in enumerate(messages):
        if value == b"poison":
            for bench, step in ((alone, CALC), (together, told)):
                with pytest.raises(MalformedRecordError):
                    await bench.run(step, value, topic="t", offset=place)
        else:
            first = await alone.run(CALC, value, topic="t", offset=place)
            assert await together.run(told, value, topic="t", offset=place) == first


def live_at(step: int, glucose: list[int], **changes: object) -> bytes:
    """The live forecast of ada that ends at a step of her glucose in hundredths of mg/dL."""
    past = glucose[step - 95 : step + 1]
    name = hashlib.sha256(f"{step} {past[-1]}".encode()).hexdigest()
    samples = [past[-1] / 100 + 3 * (draw - 4.5) for draw in range(10) for _ in range(12)]
    forecast = dataclasses.replace(
        LIVE, end_seconds=1_710_000_000 + 300 * step, past_centi_mgdl=past, forecast_id=name, input_hash=name,
        samples_mgdl=samples, began_ms=NOW_MS + step,
    )  # fmt: skip
    return dataclasses.replace(forecast, **changes).to_arrow()  # type: ignore[arg-type]


GLUCOSE = [10_000 + 100 * (step * 7 % 60) for step in range(300)]


async def test_forecasts_are_scored_by_those_that_follow_and_fit_the_next_fan() -> None:
    bench = Workbench()
    charts = []
    for step in range(100, 160):
        works = await bench.run(CALC, live_at(step, GLUCOSE))
        charts.append(FanChart.from_json(of(FAN_CHARTS, works)[0]))
    scores = [TargetScore.from_json(value) for value in of(SCORES, bench.sent)]
    assert len({score.score_id for score in scores}) == len(scores) == 60 - 7
    assert {score.truth_mgdl for score in scores} <= {value / 100 for value in GLUCOSE}
    assert charts[6].calibration is None
    assert charts[-1].calibration is not None
    for row in bench.rows(FAN_CHART_TABLES["backfill"]).values():
        assert from_row(row) in charts
        assert len(row) <= 2000
    assert max(len(chart.to_json()) for chart in charts) <= 4000


async def test_a_crash_between_scores_and_table_repeats_them_under_their_ids() -> None:
    bench = Workbench()
    for step in range(100, 140):
        await bench.run(CALC, live_at(step, GLUCOSE))
    lost = await bench.run(CALC, live_at(140, GLUCOSE), apply=False)
    assert len(of(SCORES, lost)) == 1
    assert await bench.run(CALC, live_at(140, GLUCOSE)) == lost
    for step in (141, 142):
        await bench.run(CALC, live_at(step, GLUCOSE))
    again = await bench.run(CALC, live_at(140, GLUCOSE))
    assert of(SCORES, again) == []
    assert of(FAN_CHARTS, again) == of(FAN_CHARTS, lost)


async def test_scores_are_confirmed_before_the_table_says_that_they_were_sent() -> None:
    bench = Workbench()
    for step in range(100, 140):
        work = await bench.tables.run(*CALC, Message(topic="t", key=None, value=live_at(step, GLUCOSE)))
        bench.tables.apply(work)
        assert work.sends_first == bool(of(SCORES, work.sends)) == (step >= 107)


async def test_samples_are_not_scored_and_keep_their_fan() -> None:
    bench = Workbench()
    for step in range(100, 140):
        await bench.run(CALC, live_at(step, GLUCOSE))
    row, scored = dict(bench.rows(SCORES_TABLE)), len(of(SCORES, bench.sent))
    (value,) = of(FAN_CHARTS, await bench.run(CALC, SAMPLE.to_arrow()))
    assert FanChart.from_json(value).calibration is None
    assert (bench.rows(SCORES_TABLE), len(of(SCORES, bench.sent))) == (row, scored)


async def test_switched_off_charts_are_what_they_were_and_scores_go_on() -> None:
    on, off = Workbench(), Workbench()
    plain = built("calc", Settings(recalibrate=False))
    for step in range(100, 160):
        (value,) = of(FAN_CHARTS, await off.run(plain, live_at(step, GLUCOSE)))
        await on.run(CALC, live_at(step, GLUCOSE))
        (alone,) = of(FAN_CHARTS, await Workbench().run(CALC, live_at(step, GLUCOSE)))
        assert value == alone
    assert len(of(SCORES, off.sent)) == len(of(SCORES, on.sent)) > 0


async def test_a_reset_forgets_what_a_subject_was_scored_by() -> None:
    bench = Workbench()
    for step in range(100, 140):
        await bench.run(CALC, live_at(step, GLUCOSE))
    await bench.run(COMMANDS, command_of("reset", NOW_MS + 1000, series_key="bob"))
    assert "ada" in bench.rows(SCORES_TABLE)
    await bench.run(COMMANDS, command_of("reset", NOW_MS + 1000, series_key="ada"))
    assert bench.rows(SCORES_TABLE) == {}


async def test_a_row_of_scores_that_cannot_be_read_costs_no_chart() -> None:
    bench = Workbench()
    bench.tables.table(SCORES_TABLE).rows["ada"] = b"\xff of a later version"
    assert of(FAN_CHARTS, await bench.run(CALC, live_at(120, GLUCOSE)))


async def test_how_forecasts_did_is_measured_once_and_names_nobody() -> None:
    bench = Workbench()
    measured: list[Measurement] = []
    for step in [*range(100, 140), 139, 120]:
        message = Message(topic="t", key=None, value=live_at(step, GLUCOSE))
        work = await bench.tables.run(*CALC, message)
        bench.tables.apply(work)
        measured += work.measured
        bench.sent += work.sends
    scores = [each for value in of(SCORES, bench.sent) for each in TargetScore.from_json(value).scores]
    errors = [each for each in measured if each.metric == FORECAST_ERROR_MGDL]
    assert [(each.labels[2], each.value) for each in errors] == [
        (str(each.minutes_ahead), abs(each.error_mgdl)) for each in scores
    ]
    inside = Counter(each.labels[3] for each in measured if each.metric == FORECAST_INSIDE)
    assert inside == {"50": sum(each.in_50 for each in scores), "80": sum(each.in_80 for each in scores),
                      "90": sum(each.in_90 for each in scores), "95": sum(each.in_95 for each in scores)}  # fmt: skip
    assert not any("ada" in label for each in measured for label in each.labels)
