"""What this machine allows at best: the parts of glucast's figures that no code of ours can take less time for.

Each line is what a figure of the other benches consists of once everything of glucast's own is left out: messages
through Kafka, answers that are ready as bytes, a picture that Chromium draws, a file that is read, the products of the
network, imports. Put beside those figures in the same hour they say how far from the floor glucast is.
"""

import asyncio
import base64
import functools
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.bench.http_load import load
from deploy.bench.pipeline import CLIENTS, LOAD_SECONDS, Figure
from deploy.bench.roles import until
from deploy.bench.uploads import Exports
from deploy.brokers.choice import choose
from deploy.brokers.wire import LOOPBACK, HeldPort
from streams.kafka.connection import new_consumer, producer_options
from streams.settings import Settings

TOPIC = "floor"
RATE, MESSAGES = 40.0, 200
BULK, BULK_BYTES = 20_000, 1000
HOPS = 4
"""Messages on the way of a reading: itself, the request, the samples, the chart."""
ANSWERS_BYTES = (9_000, 60_000)
"""About a figure as JSON and a picture."""
REPEATS = 20
WARM_UP = 5
"""Of the messages and pictures: these do not count."""
_PRODUCTS = "products"
IMPORTS = {
    "a worker": "aiokafka, faust, rocksdict, pyarrow",
    "inference besides": "torch",
    "the API": "aiokafka, fastapi, uvicorn, plotly, rocksdict",
}


def run(broker: str, say: Callable[[str], None]) -> None:
    """Print each part as it is known. `broker`: local or host:port; one that is started is stopped."""
    parts = (_imports, _products, _file, _answers, _pictures)
    for figure in (*_kafka(broker), *(each for part in parts for each in part())):
        say(figure.line().rstrip())


def _kafka(broker: str) -> Iterator[Figure]:
    """Start of the broker, one message at a time, and many."""
    with tempfile.TemporaryDirectory(prefix="glucast-floor-", ignore_cleanup_errors=True) as home:
        chosen = choose(broker, Path(home))
        began = time.perf_counter()
        chosen.start()
        try:
            yield Figure("Kafka alone, start", (time.perf_counter() - began,))
            settings = Settings(broker=chosen.address, state_dir=Path(home), **chosen.settings_overrides)  # type: ignore[arg-type]
            one, bulk_seconds = asyncio.run(_messages(settings))
        finally:
            chosen.stop()
    yield Figure(f"a message, {RATE:g}/s", one)
    yield Figure(f"{HOPS} messages in turn", tuple(HOPS * seconds for seconds in one))
    yield Figure("messages of 1 kB in bulk", text=f"{BULK / bulk_seconds:.0f} /s produced, confirmed and consumed")


async def _messages(settings: Settings) -> tuple[tuple[float, ...], float]:
    """Seconds from send to receipt, of each message; then those of many at once, until all are confirmed and read."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    finally:
        await admin.close()
    producer, consumer = AIOKafkaProducer(**producer_options(settings)), new_consumer(settings)
    await producer.start()
    await consumer.start()
    try:
        consumer.assign([TopicPartition(TOPIC, 0)])
        await consumer.seek_to_beginning()
        one = []
        for _ in range(WARM_UP + MESSAGES):
            began = time.perf_counter()
            await producer.send(TOPIC, os.urandom(BULK_BYTES), partition=0)
            await consumer.getone()
            one.append(time.perf_counter() - began)
            await asyncio.sleep(1 / RATE)
        began = time.perf_counter()
        reading = asyncio.create_task(_read(consumer, BULK))
        value = os.urandom(BULK_BYTES)
        await asyncio.gather(*[await producer.send(TOPIC, value, partition=0) for _ in range(BULK)])
        await reading
        return tuple(one[WARM_UP:]), time.perf_counter() - began
    finally:
        await producer.stop()
        await consumer.stop()


async def _read(consumer: Any, count: int) -> None:
    while count > 0:
        count -= sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))


def _imports() -> Iterator[Figure]:
    """Libraries alone, each set in a process of its own."""
    for who, names in IMPORTS.items():
        code = f"import {names}, psutil; print(psutil.Process().memory_info().rss)"
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        took = time.perf_counter() - began
        text = f"{took:.2f} s, {int(done.stdout) / (1 << 20):.0f} MiB"
        yield Figure(f"imports of {who}", text=text)


def _products() -> Iterator[Figure]:
    """The bundled network's matrix products, one window with ten draws, on one thread of a process of its own."""
    command = [sys.executable, "-m", "deploy.bench.floor", _PRODUCTS]
    done = subprocess.run(command, capture_output=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    yield Figure("products of 1 x 10", tuple(orjson.loads(done.stdout)))


def _multiply() -> Sequence[float]:
    import numpy as np
    from safetensors.numpy import load_file

    from agents.models.checkpoint_file import BUNDLED

    weights = [each for name, each in load_file(BUNDLED).items() if name.startswith("network.") and each.ndim == 2]
    rows = [np.ones((10, each.shape[1]), np.float32) for each in weights]
    return _timed(lambda: [row @ each.T for row, each in zip(rows, weights, strict=True)])


def _file() -> Iterator[Figure]:
    """An upload of three and a half months as it is sent: JSON, base64, CSV, hash."""
    import polars as pl

    body = orjson.dumps(Exports(110).export(0).body)

    def read() -> object:
        raw = base64.b64decode(orjson.loads(body)["csv_base64"])
        hashlib.sha256(raw).digest()
        return pl.read_csv(raw)

    yield Figure(f"a file of {len(body) * 3 / 4e6:.1f} MB, read", _timed(read))


def _answers() -> Iterator[Figure]:
    """An application that answers with the same bytes, under the same server, in a process of its own."""
    for size in ANSWERS_BYTES:
        held = HeldPort()
        url = f"http://{LOOPBACK}:{held.number}"
        server = subprocess.Popen([sys.executable, "-m", "deploy.bench.floor", str(held.number), str(size)])
        try:
            request = b"POST / HTTP/1.1\r\nhost: floor\r\ncontent-length: 0\r\n\r\n"
            until(functools.partial(_is_listening, held.number), 30, "an application that only answers")
            answered = asyncio.run(load(url, request, CLIENTS, LOAD_SECONDS))
        finally:
            server.terminate()
            server.wait()
        yield Figure(f"{size // 1000} kB, {CLIENTS} clients", text=f"{answered.per_second:.0f} /s")


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _pictures() -> Iterator[Figure]:
    """A dozen lines drawn by the Chromium that draws ours."""
    yield Figure("a picture, Chromium alone", tuple(asyncio.run(_drawn())))


async def _drawn() -> Sequence[float]:
    from query_api.image import Images

    images, took = Images(), []
    line = {"type": "scatter", "x": list(range(96)), "y": list(range(96))}
    figure = {"data": [line] * 12, "layout": {"width": 1000, "height": 600}}
    keeping = asyncio.create_task(images.run())
    try:
        for number in range(WARM_UP + REPEATS):
            began = time.perf_counter()
            await images.render(str(number), lambda: figure)
            took.append(time.perf_counter() - began)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return took[WARM_UP:]


def _timed(work: Callable[[], object]) -> tuple[float, ...]:
    work()
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return tuple(took)


def _serve(port: int, size: int) -> None:
    """Answer every request with so many bytes, until terminated."""
    body = os.urandom(size)
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())]}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send(start)
            await send({"type": "http.response.body", "body": body})

    uvicorn.run(application, host=LOOPBACK, port=port, access_log=False, log_level="error", lifespan="off")


if __name__ == "__main__":
    if sys.argv[1] == _PRODUCTS:
        sys.stdout.write(orjson.dumps(_multiply()).decode())
    else:
        _serve(int(sys.argv[1]), int(sys.argv[2]))
