"""What memory is given back, and what must never be."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.supervise import settle as settling
from agent.supervise.settle import clean_mappings, code_files, code_of_children, give_back, settle
from agent.worker import Worker
from tests.agent_process import unmeasured_environ
from tests.fakes import FakeClock
from tests.fakes import settle as let_run

SMAPS = b"""\
55d0c0a00000-55d0c0a10000 r-xp 00000000 fe:01 1 /usr/bin/python3.11
Rss:                  64 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
Swap:                  0 kB
55d0c0a20000-55d0c0a30000 r--p 00000000 fe:01 1 /usr/lib/relocated.so
Rss:                  64 kB
Private_Dirty:        16 kB
Anonymous:            16 kB
Swap:                  0 kB
55d0c0a40000-55d0c0a50000 rw-p 00000000 fe:01 1 /usr/lib/data.so
Private_Dirty:         0 kB
Anonymous:             0 kB
55d0c0a60000-55d0c0a70000 r--s 00000000 fe:01 1 /var/lib/telemetry-agent/spool/spool.db-shm
Private_Dirty:         0 kB
Anonymous:             0 kB
55d0c0a80000-55d0c0a90000 r--p 00000000 fe:01 1 /usr/lib/replaced.so (deleted)
Private_Dirty:         0 kB
Anonymous:             0 kB
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0 [vdso]
Private_Dirty:         0 kB
Anonymous:             0 kB
7f0000000000-7f0000010000 r--p 00000000 00:00 0
Private_Dirty:         0 kB
Anonymous:             0 kB
7f0000020000-7f0000030000 r--p 00001000 fe:01 9 /usr/lib/with a space.so
Private_Dirty:         0 kB
Anonymous:             0 kB
Swap:                  0 kB
"""


def test_only_what_the_kernel_can_read_again_unchanged_is_let_go_of() -> None:
    assert list(clean_mappings(SMAPS)) == [
        (0x55D0C0A00000, 0x10000, "/usr/bin/python3.11"),
        (0x7F0000020000, 0x10000, "/usr/lib/with a space.so"),
    ]


def test_a_swapped_page_is_a_page_of_ones_own() -> None:
    swapped = SMAPS.replace(b"Swap:                  0 kB", b"Swap:                  4 kB", 1)
    assert [path for _, _, path in clean_mappings(swapped)] == ["/usr/lib/with a space.so"]


def test_code_that_was_given_back_runs_on(tmp_path: Path) -> None:
    code = (
        "import sqlite3, ssl, zlib, hashlib\n"
        "from pathlib import Path\n"
        "from agent.supervise.settle import give_back\n"
        "rss = lambda: int([l for l in open('/proc/self/status') if l.startswith('RssFile')][0].split()[1])\n"
        "before = rss()\n"
        "give_back(Path('/proc'))\n"
        "after = rss()\n"
        "assert after < before, (before, after)\n"
        "assert sqlite3.connect(':memory:').execute('SELECT 1').fetchone() == (1,)\n"
        "assert zlib.decompress(zlib.compress(b'x' * 1000)) == b'x' * 1000\n"
        "assert hashlib.sha256(b'').hexdigest().startswith('e3b0')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_private_mapping_with_pages_of_its_own_keeps_them(tmp_path: Path) -> None:
    file = tmp_path / "mapped"
    file.write_bytes(b"a" * mmap.PAGESIZE)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[0:1] = b"b"
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ)
        give_back(Path("/proc"))
        assert mapped[0:2] == b"ba"
        ctypes.CDLL(None).mprotect(
            ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE
        )


def test_the_files_of_imported_modules_are_known() -> None:
    assert settling.__cached__ in code_files()
    assert not any(path.endswith(".py") for path in code_files())


def test_programs_that_were_started_are_known_by_their_files() -> None:
    assert code_of_children(Path("/proc")) == set()
    with subprocess.Popen(["sleep", "60"]) as child:
        while not code_of_children(Path("/proc")) & programs(child.pid):
            pass
        child.kill()


def programs(pid: int) -> set[str]:
    """What /proc/PID/exe names, once the program has begun."""
    return {os.readlink(f"/proc/{pid}/exe")}


async def test_it_is_done_after_the_start_and_the_heap_is_looked_at_every_minute(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "smaps").write_bytes(b"")
    clock, done = FakeClock(), list[str]()
    with Worker("settle") as worker:
        run = worker.run

        async def noted(call, *given):  # type: ignore[no-untyped-def]
            done.append(call.__name__)
            return await run(call, *given)

        worker.run = noted  # type: ignore[method-assign, assignment]
        settled = asyncio.create_task(settle(tmp_path, clock, worker))
        for _ in range(185):
            await clock.advance(1.0)
            await asyncio.sleep(0.001)
            await let_run()
        settled.cancel()
        await asyncio.gather(settled, return_exceptions=True)
    assert done[:4] == ["give_back"] * 4
    assert set(done[4:]) == {"trim"}


async def test_a_kernel_that_shows_no_mappings_is_left_in_peace(tmp_path: Path) -> None:
    clock = FakeClock()
    with Worker("settle") as worker:
        settled = asyncio.create_task(settle(tmp_path, clock, worker))
        for _ in range(20):
            await clock.advance(1.0)
            await asyncio.sleep(0.001)
        assert settled.done()
        assert settled.exception() is None


def test_what_reads_a_configuration_is_forgotten_and_reads_one_again(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[collect.host]\ninterval_seconds = 7\n")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from agent.supervise.settle import forget_reading\n"
        "def read():\n"
        "    from agent.config.load import load\n"
        f"    return load(Path({str(config)!r}), {{}})\n"
        "one = read()\n"
        "forget_reading()\n"
        "left = [name for name in sys.modules if name.startswith('agent.config.')]\n"
        "assert left == ['agent.config.model'], left\n"
        "assert read() == one\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


HEAPS = """
import ctypes, threading
from agent.supervise.settle import one_heap
{call}
libc, together = ctypes.CDLL(None), threading.Barrier(8)

def allocate():
    held = [bytes(5000) for _ in range(50)]
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


@pytest.mark.parametrize(("call", "one"), [("one_heap()", True), ("", False)])
def test_all_threads_share_one_heap(call: str, one: bool) -> None:
    environ = {name: value for name, value in unmeasured_environ().items() if not name.startswith("MALLOC_")}
    shown = subprocess.run(
        [sys.executable, "-c", HEAPS.format(call=call)], env=environ, capture_output=True, text=True, check=True
    )
    assert (shown.stdout.count("<heap nr=") == 1) is one
