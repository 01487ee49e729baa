"""Counts the steps of the Collatz sequences below N: halve an even number, 3n + 1 for an odd one, until 1 is reached.

One process per CPU that this job was given, pinned to it. The totals for some N are known, so the result is checked.
"""

import os
import sys

KNOWN = {10_000: 849_637, 100_000: 10_753_712, 1_000_000: 131_434_272}
PARTS = 20  # progress lines of each process


def steps(start: int, end: int, stride: int) -> int:
    total = 0
    for number in range(start, end, stride):
        while number != 1:
            number = number >> 1 if number % 2 == 0 else 3 * number + 1
            total += 1
    return total


def work(cpu: int, position: int, workers: int, below: int, result: int) -> None:
    os.sched_setaffinity(0, {cpu})
    total = 0
    for part in range(PARTS):
        low, high = 1 + below * part // PARTS, 1 + below * (part + 1) // PARTS
        first = low + (position - low) % workers
        total += steps(first, min(high, below), workers)
        print(f"cpu {cpu}: {100 * (part + 1) // PARTS} %", flush=True)
    os.write(result, f"{total}\n".encode())


def main() -> int:
    below = int(sys.argv[1])
    cpus = sorted(os.sched_getaffinity(0))
    print(f"this job has the CPUs {', '.join(map(str, cpus))}", flush=True)
    results, result = os.pipe()
    children = []
    for position, cpu in enumerate(cpus):
        child = os.fork()
        if child == 0:
            work(cpu, position, len(cpus), below, result)
            os._exit(0)
        children.append(child)
    os.close(result)
    if any(os.waitpid(child, 0)[1] for child in children):
        return 1
    with os.fdopen(results) as totals:
        total = sum(int(line) for line in totals)
    print(f"steps of all sequences below {below}: {total}")
    return 0 if KNOWN.get(below, total) == total else 1


if __name__ == "__main__":
    sys.exit(main())
