"""Handles out of the read model into saved files, and from these back into the workers' tables."""

import secrets
import time

from agents.core.fingerprint import chart_id, handle_place
from query_api.projections.uploads import StoredHandle, upload_key
from query_api.read_model import ReadModel
from query_api.saved_handles import SavedHandle, points_of
from query_api.submit import Submit
from schemas import topics
from schemas.command import CacheCommand
from schemas.fan_chart import FanChart
from schemas.upload import UploadOutcome


def snapshot(model: ReadModel, stored: StoredHandle) -> SavedHandle:
    """All that is known of a handle, as its own: also where a longer series serves it."""
    uploads = [model.uploads.upload(upload_id) for upload_id in stored.upload_ids]
    outcomes = tuple(_own(upload) for upload in uploads if upload is not None)
    rows = model.samples(stored)
    charts = {index: _placed(row.chart, stored, index) for index, row in rows.items()}
    return SavedHandle(stored.handle, outcomes or (_own(stored.outcome),), charts)


def _own(outcome: UploadOutcome) -> UploadOutcome:
    return outcome.model_copy(update={"served_by": None})


def _placed(chart: FanChart, stored: StoredHandle, index: int) -> FanChart:
    place = handle_place(stored.handle, index)
    identity = chart_id(chart.forecast_id, chart.kind, stored.series_key, place)
    return chart.model_copy(
        update={"handle": stored.handle, "index": index, "series_key": stored.series_key, "chart_id": identity}
    )


async def restore(submit: Submit, saved: SavedHandle) -> None:
    """Publish the series and the fan charts again; returns when both are in the read model.

    The workers see the series as an upload of now: what the saved file lacks is computed again.
    """
    from schemas.series import Series  # pyarrow, only where it is needed

    outcome, now_ms = saved.outcomes[0], int(time.time() * 1000)
    points = points_of(saved)
    series_key = outcome.series_key or ""
    commands = [
        CacheCommand(
            action="restore",
            command_id=secrets.token_hex(16),
            up_to_ms=now_ms,
            series_key=series_key,
            handle=saved.handle,
            chart=chart.model_copy(update={"began_ms": now_ms}),
        )
        for chart in saved.charts.values()
    ]
    series = [
        Series(
            upload_id=upload.upload_id,
            handle=saved.handle,
            series_key=series_key,
            timezone=upload.timezone,
            start_seconds=points.start_seconds,
            glucose_centi_mgdl=points.centi,
            warnings_json=upload.warnings.to_json().decode(),
            began_ms=now_ms,
            interpolated_points=points.interpolated_points,
            owner=upload.owner,
        )
        for upload in saved.outcomes
    ]
    sends = [(topics.CACHE_COMMANDS, command.to_json()) for command in commands]
    sends += [(topics.SERIES, one.to_arrow()) for one in series]
    uploads = [upload_key(one.upload_id) for one in series]
    await submit.publish_and_await(
        series_key, sends, uploads, lambda item: isinstance(item, UploadOutcome) and item.began_ms >= now_ms
    )
