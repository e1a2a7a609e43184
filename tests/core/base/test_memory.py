"""What a process does with memory that it frees."""

import subprocess
import sys

import pytest

MAPPED = """
import ctypes
import numpy as np
from tasks.core.base import memory

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
{begin}
before = libc.mallinfo2().hblks
held = np.ones(2**20)
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
@pytest.mark.parametrize(("begin", "mapped"), [("", 1), ("memory.keep_freed_memory()", 0)])
def test_arrays_are_made_of_freed_memory_even_where_dask_says_otherwise(begin: str, mapped: int) -> None:
    environment = {"MALLOC_TRIM_THRESHOLD_": "65536"}
    words = [sys.executable, "-c", MAPPED.format(begin=begin)]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert int(ran.stdout) == mapped
