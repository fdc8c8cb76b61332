"""``glucast dlq``: messages that a step could not process, and a way back for them."""

import asyncio
from typing import Annotated

import typer

from deploy.cli.topics import BrokerOption, settings_with

app = typer.Typer(help="List and replay dead letters.", no_args_is_help=True)


@app.command("list")
def list_letters(broker: BrokerOption = None) -> None:
    """Every dead letter: its id, step, reason and size; never its content."""
    from streams.dlq import letters

    filed = asyncio.run(letters(settings_with(broker)))
    for item in filed:
        letter = item.letter
        state = "replayed" if item.replayed_at else "open"
        typer.echo(f"{letter.failed_at:%Y-%m-%d %H:%M:%S}  {state:<8}  {_printable(letter.letter_id)}")
        reason = _printable(f"{letter.code}: {letter.reason}")
        typer.echo(f"    {reason} ({letter.attempts} attempts, {letter.value_bytes} bytes)")
    typer.echo(f"{len(filed)} dead letters, {sum(item.replayed_at is None for item in filed)} of them open")


def _printable(text: str) -> str:
    """Anybody may write a letter: none of its text commands the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


@app.command()
def replay(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids as `glucast dlq list` shows them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Replay all that are open.")] = False,
    again: Annotated[bool, typer.Option(help="Also those that were replayed before.")] = False,
    broker: BrokerOption = None,
) -> None:
    """Send messages back to the topics they came from; exit code 1 if one could not be sent."""
    from streams.dlq import replay as send_back

    if bool(letter_ids) == every:
        raise typer.BadParameter("name letters, or say --all")
    done = asyncio.run(send_back(settings_with(broker), None if every else letter_ids, again))
    for item in done:
        typer.echo(f"{_printable(item.letter_id)}: {item.text}")
    typer.echo(f"{sum(item.sent for item in done)} of {len(done)} replayed")
    skipped = [item for item in done if not item.sent and "already" not in item.text]
    raise typer.Exit(1 if skipped else 0)
