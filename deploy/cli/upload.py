"""``glucast upload``: a vendor's file through the API, as any other client would send it."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import ConfigurationError, RejectedError, UnavailableError

if TYPE_CHECKING:
    import httpx

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
    answer = _post(f"{api}/process_unified", body, key).json()
    typer.echo(f"handle   {answer['handle']}")
    typer.echo(f"samples  {answer['total_samples']} (index {1 - answer['total_samples']} to 12)")
    for message in (answer.get("warnings") or {}).get("messages", []):
        typer.echo(f"warning  {message}")
    if plot is not None:
        picture = _post(f"{api}/draw_a_plot", {"handle": answer["handle"], "index": index}, key).content
        try:
            plot.write_bytes(picture)
        except OSError as error:
            raise ConfigurationError(f"the file is stored; cannot write {plot}: {error.strerror}") from error
        typer.echo(f"plot     {plot} (not for treatment decisions)")


def _post(url: str, body: dict[str, Any], key: str | None) -> "httpx.Response":
    """The answer. Raises `RejectedError` with what the API says against it, `UnavailableError` where there is none."""
    import httpx

    headers = {"X-API-Key": key} if key else {}
    try:
        answer = httpx.post(url, json=body, headers=headers, timeout=TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise UnavailableError(f"no answer from {url} ({reason}); is glucast up?") from error
    if not answer.is_success:
        raise RejectedError(f"{url} answered {answer.status_code}: {_detail(answer)}")
    return answer


def _detail(answer: "httpx.Response") -> str:
    try:
        problem = answer.json()
        return str(problem.get("detail") or problem.get("error") or problem)
    except ValueError:
        return answer.text[:300]
