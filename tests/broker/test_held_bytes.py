"""Large files wait in Kafka and not in a worker's memory, and readings pass them."""

from pathlib import Path

from schemas.topics import MIB, READING_OUTCOMES, READINGS, UPLOAD_OUTCOMES, UPLOADS
from streams.settings import Settings
from tests.broker.test_worker import worker
from tests.kit.brokers import embedded
from tests.kit.clients import Client

LIMIT, FILE_BYTES, FILES, SUBJECTS = 20 * MIB, 10_000_000, 16, 40


def uploads(settings: Settings) -> None:
    """One after the other, so that this process holds few of them."""
    client = Client(settings)
    for number in range(FILES):
        client.publish(UPLOADS.name, [(b"upload-%d" % number, bytes(FILE_BYTES))])


def test_uploads_of_160_mb_are_held_one_at_a_time_and_readings_do_not_wait_for_them(tmp_path: Path) -> None:
    with embedded(tmp_path) as settings:
        client = Client(settings)
        uploads(settings)
        client.publish(READINGS.name, [(b"subject-%d" % number, b"reading") for number in range(SUBJECTS)])
        with worker(settings, tmp_path, "holding", held_bytes=LIMIT):
            read = client.until(UPLOAD_OUTCOMES.name, lambda found: len(found) == FILES)
            counted = client.until(READING_OUTCOMES.name, lambda found: len(found) == SUBJECTS)
        held = sorted(int(record.value) for record in read)
        print(f"{held[-1]} bytes held at most; {FILES * FILE_BYTES} were sent")
        assert FILE_BYTES <= held[-1] <= LIMIT
        last_reading, last_upload = (max(record.timestamp for record in found) for found in (counted, read))
        assert last_reading < last_upload
