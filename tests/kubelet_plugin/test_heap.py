"""Counted by glibc itself (malloc_info), in processes of their own: heaps that are there do not go away."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import ctypes, sys, threading
from kubelet_plugin.heap import share_one_heap
if "share" in sys.argv:
    print(share_one_heap())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ready = threading.Barrier(5)
def work():
    libc.malloc(ctypes.c_size_t(1000))
    ready.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for one in threads: one.start()
ready.wait()
for one in threads: one.join()
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
sys.stdout.flush()
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


def heaps(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.count("<heap nr="), done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="heaps of threads are glibc's")
def test_threads_have_one_heap_and_would_have_one_each() -> None:
    assert heaps()[0] == 5
    count, text = heaps("share")
    assert (count, text.splitlines()[0]) == (1, "True")
