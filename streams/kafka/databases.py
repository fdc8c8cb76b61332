"""How the databases of a worker are opened: with one cache of blocks for all of them."""

from typing import Any

import rocksdict
from faust.stores.rocksdb import RocksDBOptions, Store

from streams.kafka.rewriting import list_anew


class SharedCacheOptions(RocksDBOptions):
    """Faust's options of a table's databases, but for the cache.

    Faust gives each table and partition a cache of its own, so that their number decides what a process may hold, and
    resident memory climbs for hours until the last one is full. What one cache misses the kernel's has.
    """

    def __init__(self, cache: rocksdict.Cache, *, write_buffer_size: int) -> None:
        super().__init__(write_buffer_size=write_buffer_size, use_rocksdict=True)
        self._cache = cache

    def as_options(self) -> rocksdict.Options:
        """For a database that is about to be opened."""
        options: rocksdict.Options = super().as_options()
        table = rocksdict.BlockBasedOptions()
        table.set_bloom_filter(self.bloom_filter_size, block_based=True)
        table.set_index_type(rocksdict.BlockBasedIndexType.binary_search())
        table.set_block_cache(self._cache)
        options.set_block_based_table_factory(table)
        list_anew(options)
        return options


def share_cache(table: Any, cache: rocksdict.Cache, write_buffer_bytes: int) -> None:
    """Open the databases of a new Faust table with this cache."""
    store = table.data
    if not isinstance(store, Store):
        raise TypeError("the table is not in RocksDB")
    store.rocksdb_options = SharedCacheOptions(cache, write_buffer_size=write_buffer_bytes)
