"""``glucast bench``: benchmarks that print what they measure."""

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(help="Measure this machine; nothing is asserted.", no_args_is_help=True)


@app.command("pipeline")
def pipeline(
    broker: Annotated[str, typer.Option(help="embedded, local or host:port.")] = "embedded",
    port: Annotated[int, typer.Option(help="Port for the API of the measured run.")] = 8399,
    repeats: Annotated[
        int, typer.Option(min=1, max=200, help="Uploads a figure; readings are five times as many.")
    ] = 10,
    checkpoint: Annotated[str, typer.Option(help="As GLUCAST_CHECKPOINT.")] = "bundled",
) -> None:
    """Start everything, then time uploads, plots and readings from outside, beside GluRPC's figures."""
    from deploy.bench.pipeline import run

    run(broker, port, repeats, {"GLUCAST_CHECKPOINT": checkpoint})


@app.command("latency")
def latency(
    broker: Annotated[str, typer.Option(help="embedded, local or host:port.")] = "local",
    port: Annotated[int, typer.Option(help="Port for the API of the measured run.")] = 8398,
    rate: Annotated[float, typer.Option(min=1, max=1000, help="Readings a second, of all people together.")] = 40.0,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Of load.")] = 30.0,
    people: Annotated[int, typer.Option(min=1, max=10_000, help="Simulated people.")] = 60,
) -> None:
    """Where the time from a reading to its fan chart goes, hop by hop."""
    from deploy.bench.latency import Plan, run

    run(broker, port, Plan(rate, seconds, people), typer.echo)


@app.command("throughput")
def throughput(
    stage: Annotated[Literal["ingest", "calc", "pipeline"], typer.Option(help="What is fed and counted.")] = "ingest",
    workers: Annotated[str, typer.Option(help="Worker processes of a role; several runs, comma separated.")] = "1,2",
    subjects: Annotated[str, typer.Option(help="People; several runs, comma separated.")] = "100",
    before: Annotated[str, typer.Option(help="Readings each has before; several runs, comma separated.")] = "0",
    messages: Annotated[int, typer.Option(min=1000, help="What is fed in a run.")] = 20_000,
) -> None:
    """What a stage sustains, with all its effects confirmed by a local Kafka."""
    from deploy.bench.throughput import Plan, run

    run(
        [
            Plan(stage, many, max(messages, people), people, history)
            for people in _numbers(subjects)
            for history in _numbers(before)
            for many in _numbers(workers)
        ],
        typer.echo,
    )


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


@app.command("priority")
def priority(
    broker: Annotated[str, typer.Option(help="embedded, local or host:port.")] = "embedded",
    port: Annotated[int, typer.Option(help="Port for the API of the measured run.")] = 8397,
    backlog: Annotated[int, typer.Option(min=100, help="Backfill forecasts queued at a stage.")] = 10_000,
    repeats: Annotated[int, typer.Option(min=1, max=200, help="What is waited for, at most so often.")] = 20,
    stages: Annotated[
        str, typer.Option(help="Of uploads, requests, forecasts, readings, all.")
    ] = "uploads,requests,forecasts,readings,all",
) -> None:
    """What people wait for while a backlog is queued, and what the backlog loses by it."""
    from deploy.bench.priority import STAGES, Plan, run

    wanted = stages.split(",")
    if unknown := set(wanted) - set(STAGES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: stages are {', '.join(STAGES)}")
    run(broker, port, Plan(backlog, repeats, tuple(stage for stage in STAGES if stage in wanted)), typer.echo)


@app.command("uploads")
def uploads(
    broker: Annotated[str, typer.Option(help="embedded, local or host:port.")] = "embedded",
    port: Annotated[int, typer.Option(help="Port for the API of the measured run.")] = 8396,
    alone: Annotated[int, typer.Option(min=1, max=200, help="Files one after the other.")] = 10,
    clients: Annotated[int, typer.Option(min=1, max=64, help="Then so many clients at once.")] = 8,
    each: Annotated[int, typer.Option(min=1, max=200, help="Files of each.")] = 25,
    days: Annotated[int, typer.Option(min=2, max=365, help="Of readings in a file.")] = 110,
) -> None:
    """How soon and how many large exports are taken, and whether each got the handle that it must get."""
    from deploy.bench.uploads import Plan, run

    run(broker, port, Plan(alone, clients, each, days), typer.echo)


@app.command("faults")
def faults(
    consumer: Annotated[Literal["strict", "plain"], typer.Option(help="plain is Faust's own consumer.")] = "strict",
    load: Annotated[Literal["ingest", "pipeline"], typer.Option(help="Ingest alone, or every role.")] = "pipeline",
    rate: Annotated[float | None, typer.Option(help="Readings a second; 500 for ingest, 40 for all roles.")] = None,
    acts: Annotated[
        str | None, typer.Option(help="E.g. kill:calc,broker:stop, or a set: ingest, pipeline, cluster, machine.")
    ] = None,
    people: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Simulated people; 200 for ingest, 40 for all roles.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=3, max=120, help="Seconds of load after each act.")] = 14.0,
    brokers: Annotated[int, typer.Option(min=1, max=5, help="Brokers: one, or a cluster with three copies.")] = 1,
    followed: Annotated[
        bool, typer.Option("--followed/--not-followed", help="All roles: events and a webhook of everybody's, counted.")
    ] = True,
    back_seconds: Annotated[
        float, typer.Option(min=0.1, max=90, help="Within which service is back once a broker is.")
    ] = 10.0,
    role_back_seconds: Annotated[
        float, typer.Option(min=0.1, max=90, help="The same of acts on roles, whose process may have to start.")
    ] = 30.0,
) -> None:
    """Disturb workers and broker on a real Kafka; say what was lost, twice or late. Ends with 1 if lost or late."""
    import asyncio
    import signal

    from deploy.bench import faults as bench

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped, and no disk stays mounted

    whole = load == "pipeline"
    all_acts = bench.CLUSTER_ACTS if brokers > 1 else bench.PIPELINE_ACTS if whole else bench.INGEST_ACTS
    plan = bench.FaultRun(
        acts=bench.acts_of(acts) if acts else all_acts,
        rate=rate or (40 if whole else 500),
        whole_pipeline=whole,
        brokers=brokers,
        consumer=consumer,
        subjects=people or (40 if whole else 200),
        is_followed=followed,
        seconds_an_act=seconds,
        back_seconds=back_seconds,
        role_back_seconds=role_back_seconds,
    )
    report = asyncio.run(bench.run(plan))
    bench.print_report(report)
    if consumer == "strict" and not report.clean:
        raise typer.Exit(1)


@app.command("push")
def push(
    broker: Annotated[str, typer.Option(help="embedded, local or host:port.")] = "local",
    rate: Annotated[float, typer.Option(min=1, max=1000, help="Readings a second, of all people together.")] = 40.0,
    people: Annotated[int, typer.Option(min=1, max=10_000, help="Simulated people.")] = 60,
    followers: Annotated[int, typer.Option(min=1, max=5000, help="Clients that follow events.")] = 500,
    webhooks: Annotated[int, typer.Option(min=2, max=100, help="One of them hangs, one fails.")] = 100,
    seconds: Annotated[
        float, typer.Option(min=5, max=7200, help="With everybody told; before it a third, 60 at most, alone.")
    ] = 60,
    mended: Annotated[
        float, typer.Option(min=0, max=7200, help="Seconds after it in which the two webhooks answer.")
    ] = 0.0,
) -> None:
    """What it costs to tell many at once, how soon they know, and what others wait for meanwhile."""
    import asyncio

    from deploy.bench import push as bench

    plan = bench.Plan(rate, people, followers, webhooks, min(seconds / 3, 60), seconds, mended)
    for line in asyncio.run(bench.run(plan, broker, typer.echo)).lines():
        typer.echo(line)


@app.command("page")
def page(
    broker: Annotated[str, typer.Option(help="embedded, local or host:port.")] = "embedded",
    port: Annotated[int, typer.Option(help="Port for the API of the measured run.")] = 8396,
    repeats: Annotated[int, typer.Option(min=1, max=50, help="Browsers, each of which looks thrice, then stays.")] = 5,
) -> None:
    """How soon the page shows a forecast in Chromium: at the first looks, at later ones, and one that comes to it."""
    from deploy.bench.page import run

    run(broker, port, repeats, typer.echo)


@app.command("beside")
def beside(
    theirs: Annotated[str, typer.Option(help="A running GluRPC; bash deploy/bench/glurpc.sh starts one.")],
    their_key: Annotated[str, typer.Option(help="A key that it knows.")] = "beside",
    ours: Annotated[str | None, typer.Option(help="A running glucast, with /glurpc; else one is started.")] = None,
    our_key: Annotated[str, typer.Option(help="A key of that one with the scopes read, write and admin.")] = "",
    port: Annotated[int, typer.Option(help="Port for the API of one that is started.")] = 8395,
    record: Annotated[Path | None, typer.Option(help="Write down here the fields that GluRPC answered with.")] = None,
) -> None:
    """Send the same requests to GluRPC and to /glurpc; print each difference. Ends with 1 where one is not stated."""
    import asyncio

    from deploy.bench import beside as bench

    own = None if ours is None else bench.Side(ours, our_key)
    comparison = asyncio.run(bench.run(bench.Side(theirs, their_key), own, port, record, typer.echo))
    for line in comparison.lines():
        typer.echo(line)
    if comparison.unstated:
        raise typer.Exit(1)


@app.command("inference")
def inference(
    precision: Annotated[Literal["auto", "fp32", "bf16"], typer.Option(help="Arithmetic of the engine.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of one matrix product.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, max=20, help="The best of so many runs counts.")] = 3,
    checkpoint: Annotated[list[str], typer.Option(help="A checkpoint to be timed; may be repeated.")] = ["bundled"],  # noqa: B006
    published: Annotated[
        bool, typer.Option("--published/--no-published", help="The published architecture beside its reference, too.")
    ] = True,
) -> None:
    """Checkpoints as they are served; the published architecture beside the reference network served its own way."""
    from deploy.bench.inference import describe, describe_checkpoints, run, run_checkpoints

    served = run_checkpoints(checkpoint, precision=precision, threads=threads, repeats=repeats, progress=typer.echo)
    typer.echo(describe_checkpoints(served))
    if not published:
        return
    typer.echo(describe(run(precision=precision, threads=threads, repeats=repeats, progress=typer.echo)))


@app.command("floor")
def floor(
    broker: Annotated[str, typer.Option(help="local or host:port.")] = "local",
) -> None:
    """What this machine allows at best: the same parts with nothing of glucast's in them."""
    from deploy.bench.floor import run

    run(broker, typer.echo)


@app.command("fan-chart")
def fan_chart() -> None:
    """What a fan chart costs calc, by the number charted at once."""
    from deploy.bench.fan_chart import print_fan_charts

    print_fan_charts()


@app.command("deletes")
def deletes() -> None:
    """What a delete costs in tables of a thousand to a million rows."""
    from deploy.bench.deletes import run

    run(typer.echo)


@app.command("fuzz")
def fuzz(
    cases: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="Messages in all, broken in one way or another.")
    ] = (100_000),
    seed: Annotated[int, typer.Option(help="The same seed gives the same cases.")] = 1,
    case: Annotated[int | None, typer.Option(min=0, help="Reproduce this one, after those of its block.")] = None,
    pipeline: Annotated[
        int, typer.Option(min=0, max=100_000, help="Cases that also go through all roles on the embedded broker.")
    ] = 3000,
) -> None:
    """Send everything that anybody could send to the real steps; ends with 1 where anything does not hold."""
    import asyncio

    from deploy.bench import fuzz as bench
    from deploy.bench import fuzz_pipeline

    report = asyncio.run(bench.run(seed, range(max(cases, (case or 0) + 1)), case, typer.echo))
    for line in report.lines():
        typer.echo(line)
    whole = report.clean
    if pipeline and case is None:
        through = asyncio.run(fuzz_pipeline.run(seed, range(cases, cases + pipeline), typer.echo))
        for line in through.lines():
            typer.echo(line)
        whole = whole and through.clean
    if not whole:
        raise typer.Exit(1)


@app.command("soak")
def soak(
    minutes: Annotated[float, typer.Option(min=0.5, max=2880, help="Of steady load.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, max=2000, help="Readings a second, of all people together.")] = 40.0,
    people: Annotated[int, typer.Option(min=1, max=10_000, help="Simulated people.")] = 40,
    broker: Annotated[str, typer.Option(help="embedded, local or host:port.")] = "embedded",
    samples: Annotated[float, typer.Option(min=1, max=600, help="Seconds between two measurements.")] = 30.0,
    checkpoint: Annotated[str, typer.Option(help="As GLUCAST_CHECKPOINT.")] = "bundled",
) -> None:
    """Load every role for long; say what grows, what was lost and what came in two versions. Ends with 1 if any."""
    import asyncio

    from deploy.bench import soak as bench

    plan = bench.SoakPlan(
        minutes=minutes,
        rate=rate,
        people=people,
        broker=broker,
        sample_seconds=samples,
        environment={"GLUCAST_CHECKPOINT": checkpoint},
    )
    report = asyncio.run(bench.run(plan, typer.echo))
    for line in report.lines():
        typer.echo(line)
    if not report.clean:
        raise typer.Exit(1)
