"""Which model a worker takes: what the settings say, until another one is promoted, and back."""

import datetime

import pytest
import torch

from schemas.errors import ConfigurationError
from schemas.model_choice import ModelChoice
from streams.models import Candidates, promotion, rollback
from streams.settings import ModelSettings, Settings

SERVED, TRIAL, UNKNOWN = "persistence", "ridge", "1" * 64


def settings_of(*, serves: bool, trial: bool = True) -> Settings:
    model = ModelSettings(forecaster="persistence", model_serves=serves)
    return Settings(model=model, trial_forecaster="ridge" if trial else None)


def candidates(*, serves: bool = True, trial: bool = True) -> Candidates:
    return Candidates(settings_of(serves=serves, trial=trial))


FINGERPRINT = {each.name: each.fingerprint for each in candidates().all()}
KEEP = ModelChoice(
    model=SERVED, model_fingerprint=FINGERPRINT[SERVED], previous_model=TRIAL, previous_fingerprint=FINGERPRINT[TRIAL],
    chosen_at=datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC),
)  # fmt: skip
PROMOTED = KEEP.model_copy(
    update={
        "model": TRIAL, "model_fingerprint": FINGERPRINT[TRIAL],
        "previous_model": SERVED, "previous_fingerprint": FINGERPRINT[SERVED],
    }
)  # fmt: skip
GONE = KEEP.model_copy(update={"model_fingerprint": UNKNOWN})


@pytest.mark.parametrize(
    ("choice", "serving", "tried"), [(None, SERVED, TRIAL), (KEEP, SERVED, TRIAL), (PROMOTED, TRIAL, SERVED)]
)
def test_workers_change_places_with_the_choice(choice: ModelChoice | None, serving: str, tried: str) -> None:
    assert candidates(serves=True).select(choice).name == serving
    assert candidates(serves=False).select(choice).name == tried


def test_a_worker_on_trial_by_its_own_settings_alone_has_its_own_model() -> None:
    assert candidates(serves=False, trial=False).select(None).name == SERVED


def test_a_promoted_model_that_the_settings_no_longer_name_is_refused_in_words() -> None:
    with pytest.raises(ConfigurationError, match="was promoted"):
        candidates(serves=True).select(GONE)


def test_a_model_is_not_tried_against_itself() -> None:
    settings = Settings(model=ModelSettings(forecaster="ridge", model_serves=False), trial_forecaster="ridge")
    with pytest.raises(ConfigurationError, match="another one"):
        Candidates(settings).select(None)


def test_a_promotion_names_both_and_a_rollback_changes_them_back() -> None:
    first = promotion(candidates().all(), None, None)
    assert (first.model, first.model_fingerprint) == (TRIAL, FINGERPRINT[TRIAL])
    assert (first.previous_model, first.previous_fingerprint) == (SERVED, FINGERPRINT[SERVED])
    back = rollback(candidates().all(), first)
    assert (back.model_fingerprint, back.previous_fingerprint) == (FINGERPRINT[SERVED], FINGERPRINT[TRIAL])
    assert promotion(candidates().all(), back, None).model == TRIAL
    assert promotion(candidates().all(), GONE, FINGERPRINT[SERVED][:8]).previous_fingerprint == UNKNOWN


@pytest.mark.parametrize(
    ("before", "wanted", "words"),
    [
        (None, "f" * 64, "neither"),
        (None, FINGERPRINT[SERVED][:12], "serves already"),
        (PROMOTED, FINGERPRINT[TRIAL], "serves already"),
    ],
)
def test_a_promotion_that_changes_nothing_is_refused(before: ModelChoice | None, wanted: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        promotion(candidates().all(), before, wanted)


def test_a_choice_of_another_machine_is_known_by_the_models_files() -> None:
    """A fingerprint is of a device too: who promotes on a machine without the workers' GPU has another one."""
    here = promotion(candidates().all(), None, None)
    there = here.model_copy(update={"model_fingerprint": UNKNOWN, "previous_fingerprint": "2" * 64})
    assert candidates(serves=True).select(there).name == TRIAL
    assert candidates(serves=False).select(there).name == SERVED
    assert candidates(serves=True).select(rollback(candidates().all(), there)).name == SERVED
    again = promotion(candidates().all(), there, None)
    assert (again.model, again.previous_model) == (SERVED, TRIAL), "that which serves is not promoted again"
    with pytest.raises(ConfigurationError, match="serves already"):
        promotion(candidates().all(), there, FINGERPRINT[TRIAL])


def test_two_devices_have_one_model_by_its_files_and_two_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.models.mlp import engine

    settings = Settings(model=ModelSettings(forecaster="persistence"), trial_forecaster="network")
    (_, here) = Candidates(settings).all()
    monkeypatch.setattr(engine, "chosen_devices", lambda _: [torch.device("meta")])
    monkeypatch.setattr(engine, "MlpCopy", lambda *_: None)
    (_, there) = Candidates(settings).all()
    assert here.fingerprint != there.fingerprint
    assert here.is_same(there)


def test_without_a_model_on_trial_nothing_is_promoted() -> None:
    with pytest.raises(ConfigurationError, match="no model is on trial"):
        promotion(candidates(trial=False).all(), None, None)


def test_without_a_promotion_there_is_nothing_to_go_back_to() -> None:
    with pytest.raises(ConfigurationError, match="none to go back to"):
        rollback((), None)


def test_no_model_is_brought_back_that_no_worker_could_serve() -> None:
    """Each of them would end, and `up` with them: the settings have moved on since the promotion."""
    settled = candidates(trial=False).all()
    gone = KEEP.model_copy(update={"previous_fingerprint": UNKNOWN})
    with pytest.raises(ConfigurationError, match=f"{UNKNOWN[:12]} served before, and neither"):
        rollback(settled, gone)


def test_either_setting_switches_a_trial_on() -> None:
    assert Settings().trial is None
    only_file = Settings(trial_checkpoint="a.safetensors").trial
    assert only_file is not None
    assert (only_file.forecaster, only_file.checkpoint) == ("network", "a.safetensors")
    only_kind = Settings(trial_forecaster="ridge").trial
    assert only_kind is not None
    assert (only_kind.forecaster, only_kind.checkpoint) == ("ridge", "bundled")
