"""A replica that reads everything anew may meet an order to erase behind rows of what came after it: those stay."""

import datetime
from pathlib import Path

from schemas import topics
from schemas.alert import AlertSettings, AlertState, Snooze
from schemas.command import CacheCommand
from schemas.score_state import KnownForecast, ScoreState
from schemas.sources import DecidedPolicy, SourcePolicy, SourceState
from schemas.tables import ALERTS_TABLE, trial_key
from schemas.webhook import Delivery
from streams.topology import ALERTS_CHANGELOG, SCORES_CHANGELOG, SOURCES_CHANGELOG
from tests.kit.followed import Followed, reading
from tests.kit.workbench import NOW_MS, Workbench, built

ERASED = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
ERASED_MS = int(ERASED.timestamp() * 1000)
ORDER = reading("anna", 0, status="erased", time=ERASED, reading=None)

Row = tuple[str, str, str, bytes | None]


def scores(began_ms: int, key: str = "anna") -> Row:
    state = ScoreState(newest=5_000_000, scored=7)
    state.forecasts[bytes(8)] = KnownForecast(5_000_000, began_ms, {})
    return SCORES_CHANGELOG.name, "anna", key, state.to_bytes()


def alerts(began_ms: int) -> Row:
    return ALERTS_CHANGELOG.name, "anna", "anna", AlertState(slot=5_000_000, began_ms=began_ms).to_row()


def sources(began_ms: int) -> Row:
    policy = DecidedPolicy(offset=1, policy=SourcePolicy(preferred_device="arm"))
    state = SourceState(began_ms=began_ms, policies=(policy,))
    return SOURCES_CHANGELOG.name, "anna", "anna", state.to_row()


def delivery(queued: datetime.datetime, number: int) -> Row:
    made = Delivery(
        delivery_id=f"{number:064x}", webhook_id="hook", event_id="e", event_type="alert.raised", subject_id="anna",
        status="queued", queued_at=queued, updated_at=queued, valid_until=queued, body="{}",
    )  # fmt: skip
    return topics.WEBHOOK_DELIVERIES.name, "anna", "anna", made.to_json()


def known(followed: Followed) -> tuple[bool, bool, bool, bool, int]:
    model = followed.model
    return (
        model.scores.of("anna") is not None, model.scores.on_trial("anna") is not None,
        model.alerts.of("anna") != AlertState(), model.sources.of("anna") != SourceState(),
        len(model.webhooks.deliveries("hook")),
    )  # fmt: skip


def test_what_began_after_the_order_stays_and_what_began_before_goes(tmp_path: Path) -> None:
    second = datetime.timedelta(seconds=1)
    for number, (after, expected) in enumerate([(1000, (True,) * 4), (0, (False,) * 4)]):
        followed = Followed(tmp_path / str(number))
        began_ms = ERASED_MS + after
        queued = [ERASED - second, ERASED + second] if after else [ERASED - second, ERASED]
        followed.apply(
            scores(began_ms), scores(began_ms, trial_key("anna")), alerts(began_ms), sources(began_ms),
            *(delivery(time, place) for place, time in enumerate(queued)),
        )  # fmt: skip
        assert known(followed) == (True, True, True, True, 2)
        followed.apply(ORDER)
        assert known(followed) == (*expected, 1 if after else 0)


async def test_settings_and_a_snooze_of_nobody_begin_with_their_order() -> None:
    bench, step = Workbench(), built("chart_commands")
    for command in (
        CacheCommand(action="alerts", command_id="c", up_to_ms=0, series_key="anna",
                     alert_settings=AlertSettings(preset="early")),
        CacheCommand(action="snooze", command_id="d", up_to_ms=0, series_key="bob",
                     snooze=Snooze(direction="low", until_ms=NOW_MS)),
    ):  # fmt: skip
        await bench.run(step, command.to_json(), timestamp_ms=NOW_MS)
    states = {key: AlertState.from_json(row) for key, row in bench.rows(ALERTS_TABLE).items()}
    assert {key: state.began_ms for key, state in states.items()} == {"anna": NOW_MS, "bob": NOW_MS}


async def test_settings_of_somebody_with_alerts_leave_their_beginning_to_a_reset() -> None:
    bench, step = Workbench(), built("chart_commands")
    bench.tables.table(ALERTS_TABLE).rows["anna"] = AlertState(slot=5_000_000, began_ms=NOW_MS - 5000).to_row()
    command = CacheCommand(action="alerts", command_id="c", up_to_ms=0, series_key="anna")
    await bench.run(step, command.to_json(), timestamp_ms=NOW_MS)
    reset = CacheCommand(action="reset", command_id="r", up_to_ms=NOW_MS - 1000, series_key="anna")
    await bench.run(step, reset.to_json(), timestamp_ms=NOW_MS + 1)
    assert "anna" not in bench.rows(ALERTS_TABLE)
