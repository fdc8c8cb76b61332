"""Of all tables of a worker there is one cache of blocks."""

from pathlib import Path

import faust
import rocksdict

from streams.apps import faust_table
from streams.settings import Settings

MIB = 1 << 20


def test_the_databases_of_all_tables_and_partitions_share_one_cache(tmp_path: Path) -> None:
    app = faust.App("calc", broker="memory://", store="rocksdb://", datadir=str(tmp_path), web_enabled=False)
    settings, cache = Settings(partitions=3), rocksdict.Cache(2 * MIB)
    tables = [faust_table(app, name, settings, cache) for name in ("live", "scores")]
    databases = [table.data._db_for_partition(partition) for table in tables for partition in range(3)]
    for database in databases:
        for row in range(200):
            database.put(b"%d" % row, b"x" * 4000)
        database.flush()
    before = cache.get_usage()
    for database in databases:
        assert database.get(b"7") == b"x" * 4000
        used = cache.get_usage()
        assert used > before, "each reads through the cache"
        before = used
        assert database.property_int_value("rocksdb.block-cache-capacity") == 2 * MIB
    for database in databases:
        for row in range(200):
            database.get(b"%d" % row)
    assert cache.get_usage() <= 2 * MIB, "4.8 MB were read"
    for database in databases:
        database.close()
