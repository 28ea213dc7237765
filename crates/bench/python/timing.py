"""The Python side of `cargo xtask bench --against`: reads one job as JSON from standard input, and writes one line of
JSON for each measurement. The other scripts here follow this one in the same program.
"""
import contextlib
import json
import statistics
import sys
import time

JOB = json.load(sys.stdin)


def measure(step, budget):
    """Times of single calls (s), after a warm-up of at most five calls or a quarter of the budget."""
    start = time.perf_counter()
    for call in range(5):
        if call and time.perf_counter() - start > budget / 4:
            break
        step()
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < budget:
        t = time.perf_counter()
        step()
        times.append(time.perf_counter() - t)
    return times


def peak_rss_mib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024


def answer(mode, times, **more):
    print(json.dumps({"mode": mode, "median_s": statistics.median(times), "min_s": min(times), "calls": len(times),
                      "peak_rss_mib": peak_rss_mib(), **more}), flush=True)
