"""What is kept takes the memory that it is counted with."""

import ctypes
import sys

import orjson
import pytest

from query_api.exact_bytes import exact
from query_api.image import Images

LIBRARY = ctypes.CDLL(None)
pytestmark = pytest.mark.skipif(not hasattr(LIBRARY, "malloc_usable_size"), reason="this C library does not say")


def taken(data: bytes) -> int:
    """Bytes of memory that the object has."""
    LIBRARY.malloc_usable_size.argtypes, LIBRARY.malloc_usable_size.restype = [ctypes.c_void_p], ctypes.c_size_t
    return int(LIBRARY.malloc_usable_size(id(data)))


def test_a_copy_is_equal_and_no_larger_than_it_says() -> None:
    data = orjson.dumps({"plot_base64": "x" * 130_000})
    assert exact(data) == data
    assert taken(exact(data)) < sys.getsizeof(data) + 64


def test_pictures_and_answers_are_kept_so() -> None:
    images = Images()
    images.keep("answer", orjson.dumps({"plot_base64": "x" * 130_000}))
    kept = images.cached("answer")
    assert kept is not None
    assert taken(kept) < sys.getsizeof(kept) + 64
