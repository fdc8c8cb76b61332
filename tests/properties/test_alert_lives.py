"""Whatever forecasts come: one alert an episode, quiet where it was promised, a small state that survives its row."""

import itertools

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.core.alert_policy import AFTER_STEPS, Seen, judge
from schemas.alert import DIRECTION, RECENT, THRESHOLD_MGDL, AlertState, level_of
from schemas.grid import highest_within

CHANCE = st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.95])
STEP = st.tuples(st.sampled_from([1, 1, 1, 2, 20]), st.floats(40, 300), CHANCE, CHANCE, CHANCE, CHANCE)
LIVES = st.lists(STEP, min_size=1, max_size=60)


def forecasts(life: list[tuple[int, float, float, float, float, float]]) -> list[Seen]:
    """Consecutive forecasts, whose pasts tell of the glucose before; a gap repeats the last value."""
    glucose, found, slot = [120.0] * 96, [], 1000
    for ahead, value, *chances in life:
        glucose += [glucose[-1]] * (ahead - 1) + [value]
        slot += ahead
        of = {kind: (chance,) * 4 for kind, chance in zip(THRESHOLD_MGDL, chances, strict=True)}
        found.append(Seen("ada", slot, slot * 300_000, slot % 1440, True, np.array(glucose[-96:]),
                          np.ones(96, dtype=bool), of))  # fmt: skip
    return found


@settings(max_examples=60, deadline=None)
@given(LIVES)
@example([(1, 250.5, 0.0, 0.0, 0.0, 0.0), (1, 40.0, 0.0, 0.0, 0.0, 0.95)])  # half a mg/dL above shows as the threshold
def test_quiet_is_kept_and_the_state_is_small(life: list[tuple[int, float, float, float, float, float]]) -> None:
    state, raised, decided = AlertState(), [], []
    for one in forecasts(life):
        state, told = judge(AlertState.from_json(state.to_row()), one)
        raised += [(each, one) for each in told if each.status == "raised"]
        decided += [each.alert_id for each in told if each.status in ("hit", "false", "unknown", "missed", "ended")]
        assert len(state.recent) <= RECENT
        assert len(state.to_row()) < 4096
    assert len(decided) == len(set(decided))
    assert len({each.alert_id for each, _ in raised}) == len(raised)
    for each, one in raised:
        level = level_of(each.kind) or "low"
        limit, last = THRESHOLD_MGDL[level], one.past_mgdl[-AFTER_STEPS - 1 :]
        assert (last >= limit).all() if DIRECTION[level] == "low" else (last <= highest_within(limit)).all()
    for kind in (*THRESHOLD_MGDL, "falling_fast"):
        slots = [each.slot for each, _ in raised if each.kind == kind]
        assert all(later - earlier >= 6 for earlier, later in itertools.pairwise(slots))


@settings(max_examples=40, deadline=None)
@given(LIVES, st.data())
def test_repeats_in_any_order_change_nothing(
    life: list[tuple[int, float, float, float, float, float]], data: st.DataObject
) -> None:
    once = AlertState()
    again = AlertState()
    told_once, told_again = [], []
    past: list[Seen] = []
    for one in forecasts(life):
        once, told = judge(once, one)
        told_once += told
        past.append(one)
        for repeat in (one, *data.draw(st.lists(st.sampled_from(past), max_size=3))):
            again, told = judge(again, repeat)
            told_again += told
    assert (once, told_once) == (again, told_again)
