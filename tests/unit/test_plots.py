"""What was drawn of a chart is shown of no other, and what a client keeps of one is not taken for another."""

import orjson

from query_api.image import Images
from query_api.plots import Plots
from query_api.projections.fan_charts import ChartRow
from query_api.routers.subjects import _tag
from query_api.style import Style
from schemas.fan_chart_row import to_row
from tests.kit.charts import ISSUE, fan_chart


def row(median: float) -> ChartRow:
    """Of one window and model, so of one id; the fan is fitted to what is known of the person."""
    chart = fan_chart(median_mgdl=[median] * 12)
    return ChartRow(int(ISSUE.timestamp()), 0, chart.chart_id, to_row(chart))


async def test_one_id_with_another_fan_is_another_picture_and_another_answer() -> None:
    plots, style = Plots(Images()), Style()
    drawn = [await plots.plot(row(median), style, "application/json") for median in (120.0, 121.0, 120.0)]
    assert orjson.loads(drawn[0]) != orjson.loads(drawn[1])
    assert drawn[0] == drawn[2]
    assert plots.drawn(row(121.0), style, "application/json") == drawn[1]
    assert row(120.0).chart_id == row(121.0).chart_id
    assert _tag(row(120.0), "mg/dL") == _tag(row(120.0), "mg/dL") != _tag(row(121.0), "mg/dL")
