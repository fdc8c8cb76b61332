"""A model that was served and is on trial now takes no served chart away, and all replicas agree."""

from pathlib import Path

from query_api.read_model import ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from tests.agents.test_chart_rows import OLD, SAMPLE, by, row, stored
from tests.api.test_models_on_trial import MIB, follow, sample, samples


async def test_a_trial_never_takes_a_served_chart_away() -> None:
    assert row(SAMPLE, OLD).items() <= (await stored(by(OLD, SAMPLE), by(OLD, SAMPLE, serves=False))).items()


def test_replicas_agree_about_a_model_that_was_put_on_trial(tmp_path: Path) -> None:
    served, tried = sample(-3, OLD), sample(-3, OLD, serves=False)
    answers = []
    for number, log in enumerate(([served, tried], [tried])):  # the second is the first after compaction
        model = ReadModel(Store(tmp_path / str(number), MIB, MIB), Subscriptions())
        follow(model, *log)
        answers.append(samples(model))
        model.close()
    assert answers[0] == answers[1]
