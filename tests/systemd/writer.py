"""This file runs inside a machine: it writes numbered lines to a log file, which it renames as it grows.

python3 writer.py /var/log/app/app.log      until it is killed with SIGTERM; then /var/log/app/app.log.written
                                            holds the number of lines
"""

from __future__ import annotations

import os
import signal
import sys
import time

LINES_A_ROUND = 20
ROUND_SECONDS = 0.01
LINES_A_FILE = 3000


def main(path: str) -> None:
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    written = 0
    file = open(path, "a")  # noqa: SIM115  it is renamed below
    while not ended:
        for _ in range(LINES_A_ROUND):
            written += 1
            file.write(f"line {written:09d} of the writer, with something to say\n")
        file.flush()
        if written % LINES_A_FILE == 0:
            os.replace(path, f"{path}.{written // LINES_A_FILE}")
            file.close()
            file = open(path, "a")  # noqa: SIM115
        time.sleep(ROUND_SECONDS)
    file.close()
    with open(f"{path}.written.part", "w") as count:
        count.write(str(written))
    os.replace(f"{path}.written.part", f"{path}.written")


main(sys.argv[1])
