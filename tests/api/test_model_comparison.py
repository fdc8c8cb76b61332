"""Two models of the same people beside each other, from the changelog of the scores table."""

from pathlib import Path

from query_api.model_comparison import ModelScores, compared
from query_api.read_model import Entry, ReadModel
from query_api.scorecard import WindowCard, scorecard
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas.score_state import SUMMED_STEPS, ScoreState, Sums
from schemas.tables import trial_key
from streams.topology import SCORES_CHANGELOG

MIB = 1 << 20
TODAY = 20_000
SERVED, TRIAL = b"\x11" * 8, b"\x22" * 8


def state_of(model: bytes, error_mgdl: float, *days: int) -> bytes:
    """Ten targets a day and horizon, each with this error."""
    state = ScoreState(model=model, newest=(max(days) + 1) * 288 - 1, scored=10 * len(days))
    for day in days:
        sums = Sums(
            targets=10, error_deci=round(100 * error_mgdl), square=round(10 * error_mgdl**2),
            crps_centi=round(700 * error_mgdl), width_deci=round(330 * error_mgdl), in_50=5, in_80=8, in_90=9, in_95=10,
            clarke_a=9, clarke_b=1,
        )  # fmt: skip
        state.set_sums(day, [sums] * len(SUMMED_STEPS))
    return state.to_bytes()


def told(model: ReadModel, **rows: bytes | None) -> None:
    """Rows by subject; those of trials under ``<subject>_trial``."""
    keys = {name: trial_key(name.removesuffix("_trial")) if name.endswith("_trial") else name for name in rows}
    model.apply([Entry(SCORES_CHANGELOG.name, 0, 0, keys[name].encode(), row) for name, row in rows.items()], {})
    assert model.skipped == 0


def opened(home: Path) -> ReadModel:
    return ReadModel(Store(home / "table", MIB, MIB), Subscriptions())


async def test_models_are_compared_over_the_people_and_days_that_both_have(tmp_path: Path) -> None:
    model = opened(tmp_path)
    told(
        model,
        anna=state_of(SERVED, 12.0, TODAY - 2, TODAY - 1, TODAY),
        anna_trial=state_of(TRIAL, 10.0, TODAY - 1, TODAY),
        berta=state_of(SERVED, 20.0, TODAY),
    )
    found = {each.role: each for each in (await compared(model.scores.every())).models}
    model.close()
    assert {role: (each.model, each.people, each.person_days) for role, each in found.items()} == {
        "served": (SERVED.hex(), 1, 2),  # of berta nobody knows what the trial would have made
        "trial": (TRIAL.hex(), 1, 2),
    }
    assert errors(found["served"]) == {12.0}
    assert errors(found["trial"]) == {10.0}


async def test_a_trial_that_ended_long_ago_takes_no_day_from_the_served_model(tmp_path: Path) -> None:
    model = opened(tmp_path)
    long_ago = state_of(TRIAL, 10.0, TODAY - 30, TODAY - 29)
    told(model, anna=state_of(SERVED, 12.0, TODAY - 1, TODAY), anna_trial=long_ago)
    (found,) = (await compared(model.scores.every())).models
    model.close()
    assert (found.role, found.people, found.person_days, errors(found)) == ("served", 1, 2, {12.0})


def errors(scores: ModelScores) -> set[float]:
    return {card.mae_mgdl for card in scores.horizons}


async def test_without_forecasts_no_model_is_named(tmp_path: Path) -> None:
    model = opened(tmp_path)
    assert (await compared(model.scores.every())).models == []
    model.close()


def test_a_persons_scorecard_has_the_trial_beside_it_until_both_go(tmp_path: Path) -> None:
    model = opened(tmp_path)
    told(model, anna=state_of(SERVED, 12.0, TODAY))
    state = model.scores.of("anna")
    assert state is not None
    assert scorecard("anna", state, model.scores.on_trial("anna")).trial is None
    told(model, anna_trial=state_of(TRIAL, 10.0, TODAY))
    card = scorecard("anna", state, model.scores.on_trial("anna"))
    assert card.trial is not None
    assert (card.model, card.trial.model) == (SERVED.hex(), TRIAL.hex())
    assert (errors_of(card.windows[0]), errors_of(card.trial.windows[0])) == ({12.0}, {10.0})
    told(model, anna_trial=state_of(TRIAL, 10.0, TODAY - 5))  # one that has ended: its last day is none of the last day
    card = scorecard("anna", state, model.scores.on_trial("anna"))
    assert card.trial is not None
    assert [errors_of(window) for window in card.trial.windows] == [set(), {10.0}, {10.0}]
    told(model, anna_trial=state_of(TRIAL, 10.0, TODAY - 14))
    assert scorecard("anna", state, model.scores.on_trial("anna")).trial is None
    told(model, anna=None, anna_trial=None)
    assert (model.scores.of("anna"), model.scores.on_trial("anna")) == (None, None)
    model.close()


def errors_of(window: WindowCard) -> set[float]:
    return {card.mae_mgdl for card in window.horizons}
