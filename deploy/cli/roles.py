"""One role in this process: ``glucast worker ROLE``, ``glucast api`` and ``glucast notify``."""

from typing import Annotated, Any, Literal

import typer

Role = Literal["ingest", "inference", "calc"]


def worker(
    role: Annotated[Role, typer.Argument(help="What this process does.")],
    plain: Annotated[bool, typer.Option(hidden=True, help="Faust's own consumer, which loses events.")] = False,
) -> None:
    """Run one worker role against GLUCAST_BROKER, in the foreground."""
    from streams.settings import Settings
    from streams.worker import run_worker, strict_app

    app_of = strict_app
    if plain:
        from deploy.bench.plain import plain_app

        app_of = plain_app
    raise typer.Exit(run_worker(role, Settings(), app_of))


def api(
    host: Annotated[str | None, typer.Option(help="Address to bind (GLUCAST_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind (GLUCAST_PORT).")] = None,
) -> None:
    """Run the query API against GLUCAST_BROKER, in the foreground."""
    from query_api.app import serve
    from streams.settings import Settings

    given: dict[str, Any] = {"host": host, "port": port}
    raise typer.Exit(serve(Settings(**{name: value for name, value in given.items() if value is not None})))


def notify() -> None:
    """Send alerts and forecasts to webhooks, ntfy, Nightscout and MQTT (GLUCAST_WEBHOOKS_FILE, GLUCAST_MQTT_HOST)."""
    from streams.notify.role import run_notify
    from streams.settings import Settings

    raise typer.Exit(run_notify(Settings()))
