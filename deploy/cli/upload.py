"""``glucast upload``: a vendor's file through the API, as any other client would send it."""

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import ConfigurationError, RejectedError, UnavailableError

TIMEOUT_SECONDS = 60.0


def upload(
    file: Annotated[Path, typer.Argument(help="A Dexcom, Libre, Medtronic, Nightscout or unified CSV export.")],
    api: Annotated[str, typer.Option(help="Where the API listens.")] = "http://127.0.0.1:8000",
    plot: Annotated[Path | None, typer.Option(help="Write a plot (PNG) here.")] = None,
    index: Annotated[int, typer.Option(help="Sample of the plot: 0 is the last hour, 12 the hour after it.")] = 0,
    key: Annotated[str | None, typer.Option(envvar="GLUCAST_API_KEY", help="API key, where one is needed.")] = None,
) -> None:
    """Send a file; prints its handle, how many samples it has, and warnings."""
    try:
        body = {"csv_base64": base64.b64encode(file.read_bytes()).decode()}
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    answer = json.loads(_post(f"{api}/process_unified", body, key))
    typer.echo(f"handle   {answer['handle']}")
    typer.echo(f"samples  {answer['total_samples']} (index {1 - answer['total_samples']} to 12)")
    for message in (answer.get("warnings") or {}).get("messages", []):
        typer.echo(f"warning  {message}")
    if plot is not None:
        plot.write_bytes(_post(f"{api}/draw_a_plot", {"handle": answer["handle"], "index": index}, key))
        typer.echo(f"plot     {plot} (not for treatment decisions)")


def _post(url: str, body: dict[str, Any], key: str | None) -> bytes:
    headers = {"content-type": "application/json"} | ({"X-API-Key": key} if key else {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - the user's own URL
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            data: bytes = answer.read()
            return data
    except urllib.error.HTTPError as error:
        raise RejectedError(f"{url} answered {error.code}: {_detail(error.read())}") from error
    except (OSError, ValueError) as error:
        raise UnavailableError(f"no answer from {url} ({getattr(error, 'reason', error)}); is glucast up?") from error


def _detail(body: bytes) -> str:
    try:
        problem = json.loads(body)
        return str(problem.get("detail") or problem.get("error") or problem)
    except ValueError:
        return body[:300].decode(errors="replace")
