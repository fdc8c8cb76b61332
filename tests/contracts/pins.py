"""What we use of other libraries without their promise: each name with its shape, and what breaks without it.

Whoever raises the bound of one of them reads here what to look at; test_private_api.py holds both sides to it.
"""

from typing import Literal, NamedTuple


class Pin(NamedTuple):
    """One name of another library: whose it is, what we do with it, how it looks, and why we need it."""

    owner: str
    name: str
    how: Literal["overridden", "replaced", "used", "copied"]
    """Overridden in a class of ours, replaced on an object of theirs, used as it is, or its value written down."""
    shape: str
    """Of a method its parameters without annotations, else what kind of thing it is; see `shape_of`."""
    because: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


_CONSUMER = "faust.transport.drivers.aiokafka.Consumer"
_THREAD = "faust.transport.drivers.aiokafka.AIOKafkaConsumerThread"
_TABLES = "faust.tables.manager.TableManager"
_PRODUCER = "faust.transport.drivers.aiokafka.Producer"
_TRANSPORT = "faust.transport.drivers.aiokafka.Transport"
_APP = "faust.app.base.App"
_MESSAGE = "faust.types.tuples.Message"
_STORE = "faust.stores.rocksdb.Store"
_AIOKAFKA = "aiokafka.consumer.consumer.AIOKafkaConsumer"
_LISTENER = "aiokafka.abc.ConsumerRebalanceListener"
_KALEIDO = "kaleido.Kaleido"
_PIPE = "choreographer.channels.Pipe"
_CHROMIUM = "choreographer.browsers.chromium.Chromium"
_CONNECTION = "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol"
_RECORDER = "torch.utils._python_dispatch.TorchDispatchMode"

PINS = [
    # Faust's consumer, made strict
    Pin(_CONSUMER, "_new_consumer_thread", "overridden", "(self)",
        "Puts our fetching thread in: without it fetches wait 1.5 s, and log ends are wrong on the embedded broker."),
    Pin(_CONSUMER, "_getmany", "overridden", "async (self, active_partitions, timeout)",
        "Tells the ledgers of every fetch before anything of it can be dropped; else lost deliveries go unnoticed."),
    Pin(_CONSUMER, "getmany", "overridden", "async iterator (self, timeout)",
        "Lets through only what the ledger admits; without it records are delivered twice, or skipped after a loss."),
    Pin("faust.transport.conductor.Conductor", "_tp_index", "used", "attribute",
        "The streams of a partition: where they have room, messages are handed over at a tenth of the cost."),
    Pin(_CONSUMER, "perform_seek", "overridden", "async (self)",
        "Begins a ledger at each committed offset; without it there is no ledger and nothing is ever acked."),
    Pin(_CONSUMER, "resume_flow", "overridden", "(self)",
        "Ledgers begin when flow resumes; begun earlier they would count records that Faust then throws away."),
    Pin(_CONSUMER, "_add_gap", "overridden", "async (self, tp, offset_from, offset_to)",
        "Keeps Faust from acking what it takes for a hole in the log, which after a dropped fetch are lost events."),
    Pin(_CONSUMER, "ack", "overridden", "(self, message)",
        "Acks go to the ledger; Faust's own bookkeeping would commit past events whose effects are not confirmed."),
    Pin(_CONSUMER, "_filter_tps_with_pending_acks", "overridden", "(self, topics=None)",
        "Offers the ledgers' partitions for a commit; Faust's list stays empty, so nothing would be committed."),
    Pin(_CONSUMER, "_new_offset", "overridden", "(self, tp)",
        "Commits up to the first message that is not acked; Faust's answer ignores the ledger."),
    Pin(_CONSUMER, "_should_commit", "overridden", "(self, tp, offset)",
        "Never commits backwards, and does commit when nothing was committed before."),
    Pin(_CONSUMER, "_commit_offsets", "overridden", "async (self, offsets, start_new_transaction=True)",
        "Commits without Faust's flush of the producer, which holds every commit up behind unrelated sends."),
    Pin(_CONSUMER, "on_partitions_revoked", "overridden", "async (self, revoked)",
        "Finishes and commits what is in flight before a rebalance; without it that work is done again elsewhere."),
    Pin(_CONSUMER, "on_partitions_assigned", "overridden", "async (self, assigned, generation_id=0)",
        "An assignment opens the fence and starts the watch over heartbeats; without it effects wait for ever."),
    Pin(_CONSUMER, "callback", "replaced", "attribute",
        "Tells the ledger that a message has reached the streams; else each delivery looks lost and is repeated."),
    Pin(_CONSUMER, "_commit", "used", "async (self, offsets)",
        "Sends the commit in the thread of the fetches."),
    Pin(_CONSUMER, "_thread", "used", "attribute",
        "Seeks and heartbeats belong to the thread of the fetches; elsewhere they race with a fetch."),
    Pin(_CONSUMER, "_read_offset", "used", "attribute",
        "Emptied after every delivery and seek, or Faust guesses gaps and drops what it takes for old."),
    Pin(_CONSUMER, "_committed_offset", "used", "attribute",
        "What was committed last: decides whether there is anything to commit."),
    Pin(_CONSUMER, "_unacked_messages", "used", "attribute",
        "What Faust waits for when it stops or rebalances; a message left in it holds both up."),
    Pin(_CONSUMER, "_waiting_for_ack", "used", "attribute",
        "Wakes that wait after an ack; without it each stop and rebalance takes up to a second longer."),
    Pin(_CONSUMER, "seek_to_committed", "used", "async (self)",
        "Where each ledger begins."),
    Pin(_CONSUMER, "earliest_offsets", "used", "async (self, *partitions)",
        "Where a ledger begins when its group has never committed."),
    Pin(_CONSUMER, "highwaters", "used", "async (self, *partitions)",
        "How far each log goes, asked of the broker: lag and liveness rest on it."),
    Pin(_CONSUMER, "force_commit", "used", "async (self, topics=None, start_new_transaction=True)",
        "The commit before partitions are given away, even while another one is on its way."),
    Pin(_CONSUMER, "stop_flow", "used", "(self)",
        "Lets no more messages through once partitions are being given away."),
    Pin(_CONSUMER, "flow_active", "used", "attribute",
        "Lost deliveries are sought only while messages flow: else the seek would undo a rebalance's."),
    # Faust's thread around aiokafka's consumer
    Pin(_THREAD, "_create_consumer", "overridden", "(self, loop)",
        "Shortens how long a fetch waits; Faust fixes it at 1.5 s, for which every question to the broker queues."),
    Pin(_THREAD, "_highwaters", "overridden", "async (self, partitions)",
        "Log ends from a fetch: the embedded broker's own answer is too low, and tables would stop recovering early."),
    Pin(_THREAD, "_fetch_records", "overridden",
        "async (self, consumer, active_partitions, timeout=None, max_records=None)",
        "Partitions take turns; without it one with a backlog starves the others."),
    Pin(_THREAD, "_ensure_consumer", "used", "(self)",
        "Faust's way to aiokafka's consumer, for log ends and heartbeats."),
    Pin(_THREAD, "seek_wait", "used", "async (self, partitions)",
        "Seeks between two fetches, so that no fetch moves the position at the same time."),
    # Faust's producer, transport and App
    Pin(_PRODUCER, "_new_producer", "overridden", "(self, transactional_id=None)",
        "Puts the fence before aiokafka's sender; without it a paused worker writes stale tables when it wakes up."),
    Pin(_TRANSPORT, "Consumer", "overridden", "class",
        "Puts the strict consumer in; Faust's own loses events in ordinary rebalances."),
    Pin(_TRANSPORT, "Producer", "overridden", "class",
        "Puts the fenced producer in."),
    Pin(_APP, "_new_transport", "overridden", "(self)",
        "Puts the strict transport in for consuming: the documented way takes a driver by its URL alone."),
    Pin(_APP, "_new_producer_transport", "overridden", "(self)",
        "Puts the strict transport in for producing."),
    Pin(_APP, "stop", "overridden", "async (self)",
        "Gives work back that has not begun before Faust waits for it; else that last wait never ends."),
    Pin(_APP, "_consumer", "used", "attribute",
        "Whether there is a consumer yet; the public property would make one."),
    Pin(_APP, "_assignment", "used", "attribute",
        "Whether partitions were assigned (readiness), and whether a table's partition is still ours to write."),
    Pin(_APP, "consumer_generation_id", "used", "attribute",
        "Tells a delivery of before a rebalance from one of after it: an outdated one must not be acked."),
    Pin(_APP, "rebalancing", "used", "attribute",
        "Readiness and liveness: a worker that takes over partitions is neither ready nor stalled."),
    Pin(_APP, "flow_control", "used", "attribute",
        "Empties the queues of the streams before partitions are given away."),
    Pin("faust.transport.conductor.Conductor", "acks_enabled_for", "used", "(self, topic)",
        "Tells events from changelogs, which have no ledger."),
    Pin(_MESSAGE, "acked", "used", "attribute",
        "Marked by us in the place of Faust's ack; else Faust would ack the message a second time."),
    Pin(_MESSAGE, "tracked", "used", "attribute",
        "Whether a message ever reached a stream: one that did not is not acked by an outdated delivery."),
    Pin(_MESSAGE, "generation_id", "used", "attribute",
        "The rebalance that a delivery belongs to."),
    # Faust's tables
    Pin("faust.tables.recovery.Recovery", "_build_offsets", "overridden",
        "async (self, consumer, tps, destination, title)",
        "Looks whether a table on disk can be continued, before it is: one that cannot would end the worker, or lie."),
    Pin("faust.tables.recovery.Recovery", "active_highwaters", "used", "attribute",
        "The last offset of each changelog, to compare with what the table says that it has reached."),
    Pin(_TABLES, "_recovery", "used", "attribute",
        "Where the table manager keeps its recovery, which is stopped with it."),
    Pin(_TABLES, "on_start", "overridden", "async (self)",
        "Opens the tables at once; Faust sleeps a second first, at every start of a worker."),
    Pin(_TABLES, "_update_channels", "used", "async (self)",
        "The rest of that start: without it tables are not read back from their changelogs."),
    Pin(_TABLES, "recovery", "overridden", "property",
        "Puts our recovery in, is started by us with the tables, and asked how much is left to read."),
    Pin("faust.tables.recovery.Recovery", "active_remaining_total", "used", "(self)",
        "Progress of a recovery: liveness would take a long one for a stall."),
    Pin(_STORE, "_db_for_partition", "used", "(self, partition)",
        "The RocksDB of one partition: value and changelog offset have to be written in one batch."),
    Pin(_STORE, "offset_key", "copied", r"value b'__faust\x00offset__'",
        "The key of the changelog offset: under another one recovery would read past values that are not there."),
    Pin("mode.services.Service", "logger", "overridden", "attribute",
        "Puts what our classes of Faust say under Faust's loggers, whose level our log settings govern."),
    # aiokafka
    Pin(_AIOKAFKA, "_client", "used", "attribute",
        "Sends the fetch of nothing that tells log ends on every broker."),
    Pin("aiokafka.client.AIOKafkaClient", "send", "used",
        "async (self, node_id, request, *, group=<ConnectionGroup.DEFAULT: 0>)",
        "Sends that fetch to one broker."),
    Pin("aiokafka.client.AIOKafkaClient", "cluster", "used", "attribute",
        "Knows which broker leads a partition."),
    Pin("aiokafka.cluster.ClusterMetadata", "leader_for_partition", "used", "(self, partition)",
        "The broker to ask for a partition's log end."),
    Pin("aiokafka.protocol.fetch.FetchRequest", "__init__", "used",
        "(self, max_wait_time, min_bytes, max_bytes, isolation_level, topics, rack_id='')",
        "The fetch of nothing itself: end offsets are too low on the embedded broker."),
    Pin(_AIOKAFKA, "_fetch_max_wait_ms", "used", "attribute",
        "How long a fetch waits; read when the consumer starts, and Faust gives no say in it."),
    Pin(_AIOKAFKA, "_isolation_level", "used", "attribute",
        "Whether aborted transactions are read; read when the consumer starts, and Faust gives no say in it."),
    Pin(_AIOKAFKA, "_subscription", "used", "attribute",
        "The way to the position of each partition: past markers that no record follows."),
    Pin(_AIOKAFKA, "_fetcher", "used", "attribute",
        "The way to the buffers of fetched records."),
    Pin("aiokafka.consumer.fetcher.Fetcher", "_records", "used", "attribute",
        "Those buffers in the order in which they are emptied: rotated, so that partitions take turns."),
    Pin(_AIOKAFKA, "_coordinator", "used", "attribute",
        "The way to the heartbeats."),
    Pin("aiokafka.consumer.group_coordinator.GroupCoordinator", "_do_heartbeat", "replaced", "async (self)",
        "A heartbeat that the group accepts proves that the partitions are still ours; the fence closes without it."),
    Pin("aiokafka.consumer.group_coordinator.GroupCoordinator", "_rejoin_needed_fut", "used", "attribute",
        "Whether the group is giving the partitions away: heartbeats that it accepts then prove nothing."),
    Pin("aiokafka.consumer.fetcher", "MemoryRecords", "replaced", "class",
        "Ours hands out the batches of a fetch one by one, whatever is in them; theirs raises for ever at the same."),
    Pin("aiokafka.consumer.fetcher", "PartitionRecords", "replaced", "class",
        "Ours tells these batches where the fetch began: a damaged one does not say its offsets."),
    Pin("aiokafka.consumer.fetcher.PartitionRecords", "__init__", "overridden",
        "(self, tp, records, aborted_transactions, fetch_offset, key_deserializer, value_deserializer, check_crcs, "
        "isolation_level)",
        "Where it is told that."),
    Pin("aiokafka.producer.producer.AIOKafkaProducer", "_sender", "used", "attribute",
        "The way to the requests that leave for a broker."),
    Pin("aiokafka.producer.sender.Sender", "_send_produce_req", "replaced", "async (self, node_id, batches)",
        "Every request to write waits at the fence, also those that were queued before a pause."),
    Pin("aiokafka.conn.AIOKafkaConnection", "send", "replaced", "(self, request, expect_response=True)",
        "Gives up a broker that takes a request and does not answer: else one that hangs stops its clients for 40 s."),
    Pin("aiokafka.conn.AIOKafkaConnection", "connect", "replaced", "async (self)",
        "Gives up a broker that takes a connection and says nothing."),
    Pin("aiokafka.client.AIOKafkaClient", "_get_conn", "replaced",
        "async (self, node_id, *, group=<ConnectionGroup.DEFAULT: 0>, no_hint=False)",
        "Leaves a broker alone that could not be reached: who tries it again and again keeps others from the rest."),
    Pin("aiokafka.client.AIOKafkaClient", "_get_conn_lock", "replaced", "property",
        "One lock for the connections to all brokers: who hangs would hold back the new coordinator."),
    Pin("aiokafka.client.AIOKafkaClient", "_conns", "used", "attribute",
        "Tells whether there is a connection, which a broker that cannot be reached anew may still have."),
    Pin("aiokafka.client.AIOKafkaClient", "get_random_node", "replaced", "(self)",
        "Asks who the coordinator is of a broker that answers, if there is one."),
    Pin("aiokafka.conn.AIOKafkaConnection", "_request_timeout", "used", "attribute",
        "How long each of these waits, read when a request is sent."),
    Pin(_LISTENER, "on_partitions_revoked", "overridden", "(self, revoked)",
        "From then on notify sends nothing of these partitions: without it two processes send the same."),
    Pin(_LISTENER, "on_partitions_assigned", "overridden", "(self, assigned)",
        "Tells that notify has joined its group, which readiness waits for."),
    Pin("aiokafka.partitioner", "murmur2", "used", "(data)",
        "Partitions keys as Kafka's own clients do: with another hash a subject's readings land where nobody looks."),
    # Kaleido and choreographer
    Pin(_KALEIDO, "_return_kaleido_tab", "overridden", "async (self, tab)",
        "Skips the reload of the page, and of 5 MB of script, between any two pictures."),
    Pin(_KALEIDO, "_render_task", "overridden", "async (self, fig_arg, *, topojson, _write, profiler, stepper)",
        "Takes the error of a drawing that nobody awaits because Chromium died first: asyncio would log it later."),
    Pin(_KALEIDO, "tabs_ready", "used", "attribute",
        "Where a page goes back to without that reload."),
    Pin("choreographer.Browser", "subprocess", "used", "attribute",
        "Kills a Chromium that hangs: its log is read in a thread that ends with it, and so does the whole process."),
    Pin(_CHROMIUM, "get_cli", "overridden", "(self)",
        "Starts Chromium without what draws no picture: half of its memory."),
    Pin(_PIPE, "read_jsons", "overridden", "(self, *, blocking=True)",
        "Tells when a thread waits for Chromium's next message: the pipe must not be closed under it."),
    Pin(_PIPE, "close", "overridden", "(self)",
        "Waits until that thread has left: the next browser's pipe gets the same numbers, and loses answers to it."),
    Pin(_PIPE, "from_external_to_choreo", "used", "attribute",
        "Wakes that thread by the end of a message, in Chromium's name."),
    # torch
    Pin("torch.cpu", "_is_avx512_bf16_supported", "used", "()",
        "Serves in bf16 only where the processor multiplies it natively: emulated, it is slower than fp32."),
    Pin("torch.cpu", "_is_amx_tile_supported", "used", "()",
        "The same, for processors with matrix tiles."),
    Pin("torch.utils", "_python_dispatch", "used", "module",
        "The benchmark counts matrix products where torch carries them out; its classes have no other home."),
    Pin(_RECORDER, "__torch_dispatch__", "overridden", "(self, func, types, args=(), kwargs=None)",
        "Sees each of those products."),

    # uvicorn's connections, with limits
    Pin(_CONNECTION, "on_response_complete", "overridden", "(self)",
        "Begins to wait for the next request; without it a silent connection keeps its place."),
    Pin(_CONNECTION, "cycle", "used", "attribute",
        "Tells whether a request is being answered; else connections would be ended in the middle of an answer."),
    Pin(_CONNECTION, "pipeline", "used", "attribute",
        "Tells whether requests wait behind one that is being answered; else its connection would be ended."),
    Pin(_CONNECTION, "flow", "used", "attribute",
        "Tells whether a body stands still because we do not read it; else its sender would be given up for it."),
]  # fmt: skip
