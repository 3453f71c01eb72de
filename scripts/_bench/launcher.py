"""Runs one program and writes what it cost to a file.

A process of its own, because a child inherits the peak memory of whoever starts it, and this one is small.

    python -I -S launcher.py RESULT PROGRAM ARGUMENT...
"""

import json
import os
import sys
import time


def main() -> int:
    """Run the program, and return its exit status."""
    result, *command = sys.argv[1:]
    started = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cost = {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "memory": memory}
    with open(result, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib would make it larger
        json.dump(cost, file)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
