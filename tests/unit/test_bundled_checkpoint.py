"""The committed checkpoint, its reports and its card belong together and promise what they show."""

import json

import pytest

from agents.models.checkpoint_file import BUNDLED
from agents.models.choice import Choice
from agents.models.load import load_forecaster
from agents.models.mlp.checkpoint import load_mlp
from agents.training.studies import GLUCOBENCH_HALL, HELD_OUT_STUDIES
from agents.training.study_report import ANCHOR, SERVED, mean_change

REPORTS = BUNDLED.parent / "report"
REPORT = json.loads((REPORTS / "report.json").read_text(encoding="utf-8"))
STUDIES = json.loads((REPORTS / "studies.json").read_text(encoding="utf-8"))["studies"]
CARD = (BUNDLED.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
NOTICE = (BUNDLED.parents[3] / "NOTICE").read_text(encoding="utf-8")


def test_it_is_small_calibrated_and_names_its_origin():
    checkpoint = load_mlp(BUNDLED)
    assert BUNDLED.stat().st_size < 5_000_000
    assert checkpoint.calibration is not None
    assert checkpoint.calibration.lows is not None
    assert checkpoint.anchor is not None
    assert checkpoint.licence == "CC-BY-4.0 AND ODC-By-1.0"
    for study in checkpoint.provenance["studies"]:
        assert study in CARD
        assert study in NOTICE


def test_nobody_of_the_old_table_was_trained_on_or_calibrated_with():
    provenance = load_mlp(BUNDLED).provenance
    used = {*provenance["people"], *provenance["kept_back"]}
    assert set(STUDIES) == set(HELD_OUT_STUDIES) <= {name.partition("/")[0] for name in used}
    assert not used & GLUCOBENCH_HALL
    held_out = {name.removeprefix("hall/") for name in REPORT["held_out_people"]["hall"]}
    assert held_out <= {name.removeprefix("Hall_2018/") for name in GLUCOBENCH_HALL}
    assert not set(provenance["people"]) & set(provenance["kept_back"])


def test_the_report_was_made_with_this_file():
    assert REPORT["fingerprint"] == load_forecaster(choice=Choice(device="cpu")).fingerprint


@pytest.mark.parametrize("study", sorted(STUDIES))
def test_on_a_study_it_has_not_seen_it_beats_every_baseline(study):
    rows = STUDIES[study]["forecasters"]
    for name, one in rows.items():
        if name != SERVED:
            for figure in ("rmse_mgdl", "mae_mgdl", "crps_mgdl"):
                assert rows[SERVED]["at"]["60"][figure] < one["at"]["60"][figure], name
    assert 0.86 <= rows[SERVED]["all"]["in_90"] <= 0.94
    for regime in rows[SERVED]["regimes"].values():
        assert 0.80 <= regime["in_90"] <= 0.97


@pytest.mark.parametrize("figure", ["rmse_mgdl", "mae_mgdl", "crps_mgdl"])
def test_the_card_says_by_how_much(figure):
    assert f"{-mean_change(STUDIES, SERVED, figure):.1f} %" in CARD
    assert mean_change(STUDIES, ANCHOR, figure) == 0.0


def test_the_card_repeats_the_reports():
    assert "Not a medical device" in CARD
    for part, rows in REPORT["results"].items():
        for name, one in rows.items():
            row = f"| {part} | {name} | {one['windows']:,} | {one['rmse_mgdl']:.2f} | {one['mae_mgdl']:.2f} |"
            assert row in CARD
    for study, found in STUDIES.items():
        for name, one in found["forecasters"].items():
            last = one["at"]["60"]
            row = f"| {study} | {name} | {one['windows']:,} | {last['rmse_mgdl']:.2f} | {last['mae_mgdl']:.2f} |"
            assert row in CARD
