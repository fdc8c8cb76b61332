"""The overview says of one person nothing that contradicts itself."""

from datetime import timedelta
from pathlib import Path

from streams.settings import Settings
from tests.kit.told_api import now, told_api, told_forecast, told_reading

SETTINGS = Settings(partitions=2, api_keys_file=None)


async def test_of_a_sensor_of_every_minute_the_slot_s_forecast_is_the_present_one(tmp_path: Path) -> None:
    """The two readings after a slot's time end superseded, and its forecast holds."""
    slot = now().replace(second=0, microsecond=0)
    slot -= timedelta(minutes=slot.minute % 5)
    after = {"status": "no_forecast", "code": "superseded", "reason": "another reading is nearer to this slot"}
    for minutes, is_without in ((1, False), (5, True)):
        told = [
            told_reading("anna", slot - timedelta(minutes=5)),
            told_forecast("anna", slot - timedelta(minutes=5)),
            told_reading("anna", slot - timedelta(minutes=5 - minutes), **after),
        ]
        async with told_api(SETTINGS, tmp_path / str(minutes), *told) as client:
            (glance,) = (await client.get("/overview")).json()["subjects"]
        assert glance["reading"]["without_forecast"] is is_without
        assert (glance["forecast"] is None) is is_without
