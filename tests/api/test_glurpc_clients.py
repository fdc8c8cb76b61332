"""The client that GluRPC's authors publish, unmodified, against this API over a real socket."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import httpx
import pytest

from streams.settings import Settings
from tests.kit.keys import key_in
from tests.kit.query import listening
from tests.kit.samples import dexcom, glucose_rows, libre
from tests.kit.small_pipeline import SmallPipeline

SAMPLES = 14


@pytest.fixture
def module() -> Iterator[Any]:
    """Its one file: the package around it imports a web interface that is not installed."""
    package = find_spec("glucosedao_client")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the client is not installed: pip install --no-deps glucosedao-client==0.3.1")
    spec = spec_from_file_location("glurpc_client", Path(package.submodule_search_locations[0]) / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # its dataclasses look themselves up there
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
async def site(settings: Settings, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The base URL for GluRPC's clients, and a key."""
    keys = tmp_path / "keys"
    key = key_in(keys, "clinic", scopes=["read", "write", "admin"])
    guarded = settings.model_copy(update={"api_keys_file": keys})
    async with listening(guarded, tmp_path) as url:
        yield f"{url}/glurpc", key


async def test_both_clients_make_all_six_calls(
    module: Any, site: tuple[str, str], pipeline: SmallPipeline, tmp_path: Path
) -> None:
    url, key = site
    config = module.GluRPCConfig(base_url=url, api_key=key, timeout=30)
    for name, raw in {"dexcom": dexcom(glucose_rows(121)), "libre": libre(glucose_rows(121))}.items():
        (tmp_path / name).write_bytes(raw)

    def one_after_the_other() -> dict[str, Any]:
        with module.GluRPCClient(config) as client:
            converted = client.convert_to_unified(tmp_path / "dexcom")
            processed = client.process_unified(converted.csv_content)
            return {
                "convert": asdict(converted),
                "process": asdict(processed),
                "draw": client.draw_plot(processed.handle, -3),
                "draw again": client.draw_plot(processed.handle, -3, force_calculate=True),
                "quick": asdict(client.quick_plot(converted.csv_content)),
                "health": asdict(client.health()),
                "cache": [client.cache_management(*call) for call in _calls(processed.handle)],
            }

    async def awaited() -> dict[str, Any]:
        async with module.AsyncGluRPCClient(config) as client:
            converted = await client.convert_to_unified(tmp_path / "libre")
            processed = await client.process_unified(converted.csv_content)
            return {
                "convert": asdict(converted),
                "process": asdict(processed),
                "draw": await client.draw_plot(processed.handle, -3),
                "draw again": await client.draw_plot(processed.handle, -3, force_calculate=True),
                "quick": asdict(await client.quick_plot(converted.csv_content)),
                "health": asdict(await client.health()),
                "cache": [await client.cache_management(*call) for call in _calls(processed.handle)],
            }

    for answers in (await asyncio.to_thread(one_after_the_other), await awaited()):
        assert answers["convert"]["error"] is None
        assert (answers["process"]["error"], answers["process"]["total_samples"]) == (None, SAMPLES)
        assert answers["draw"] == answers["draw again"]
        assert answers["draw"].keys() == answers["quick"]["plot_data"].keys() == {"data", "layout"}
        assert answers["quick"]["warnings"].keys() == answers["process"]["warnings"].keys()
        assert answers["health"]["total_http_errors"] == 0
        assert [each["success"] for each in answers["cache"]] == [True, True, True, False]


def _calls(handle: str) -> tuple[tuple[str, ...], ...]:
    return ("info",), ("load", handle), ("delete", handle), ("delete", handle)


async def test_what_the_client_sees_where_it_is_refused(
    module: Any, site: tuple[str, str], pipeline: SmallPipeline
) -> None:
    url, key = site
    short = dexcom(glucose_rows(60)).decode()
    async with module.AsyncGluRPCClient(module.GluRPCConfig(base_url=url, api_key=key)) as client:
        refused = await client.process_unified(short)
        assert (refused.handle, refused.total_samples) == (None, None)
        assert "a forecast needs" in refused.error
        quick = await client.quick_plot(short)
        assert (quick.plot_data, quick.error) == ({}, refused.error)
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await client.draw_plot("0" * 64, 0)
    for wrong, status in ((None, "401"), ("guess", "403")):
        async with module.AsyncGluRPCClient(module.GluRPCConfig(base_url=url, api_key=wrong)) as client:
            with pytest.raises(httpx.HTTPStatusError, match=status):
                await client.draw_plot("0" * 64, 0)
