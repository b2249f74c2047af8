"""A virus scanner of Windows at its worst: a process that opens each new file and shares it with nobody for a while."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.helpers.held import Share

SCAN: Final = """
import ctypes, json, os, sys, threading, time
share, seconds, *folders = json.loads(sys.argv[1])
kernel = ctypes.WinDLL("kernel32", use_last_error=True)
number, pointer = ctypes.c_ulong, ctypes.c_void_p
kernel.CreateFileW.restype = pointer
kernel.CreateFileW.argtypes = (ctypes.c_wchar_p, number, number, pointer, number, number, pointer)
kernel.CloseHandle.argtypes = (pointer,)

def files(folder):
    try:
        with os.scandir(folder) as entries:
            for entry in list(entries):
                if entry.is_dir(follow_symlinks=False):
                    yield from files(entry.path)
                else:
                    found = os.stat(entry.path)
                    yield entry.path, (found.st_ino, found.st_mtime_ns)
    except OSError:
        return

over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
seen = {key for folder in folders for _, key in files(folder)}
held, scanned = [], []
print("scans", flush=True)
while not over.is_set():
    for path, key in (found for folder in folders for found in files(folder)):
        if key not in seen:
            handle = kernel.CreateFileW(path, 0x80000000, share, None, 3, 0x80, None)
            # One that another program writes is opened once that program has closed it.
            if handle not in (None, 2**64 - 1):
                seen.add(key)
                held.append((time.monotonic() + seconds, handle))
                scanned.append(path)
    while held and held[0][0] <= time.monotonic():
        kernel.CloseHandle(held.pop(0)[1])
    time.sleep(0.002)
print(json.dumps(scanned), flush=True)
"""


@contextmanager
def scanned(*folders: Path, seconds: float, share: Share = Share.NOTHING) -> Iterator[list[str]]:
    """Inside the block every new file in these folders is held so long; afterwards the list names them."""
    given = json.dumps([int(share), seconds, *map(str, folders)])
    found: list[str] = []
    words = [sys.executable, "-c", SCAN, given]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "scans"
        try:
            yield found
        finally:
            process.stdin.close()
            found += json.loads(process.stdout.readline())
