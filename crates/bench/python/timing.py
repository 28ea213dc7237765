"""Timing for `neocog bench --against`: reads a job as JSON from standard input, and prints one line of JSON per measurement.

The other scripts in this directory are appended to this one and run in the same process.
"""
import contextlib
import json
import statistics
import sys
import time

JOB = json.load(sys.stdin)


def measure(step, budget):
    """Returns the times of single calls in seconds, after a warm-up of at most five calls or a quarter of the budget."""
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
    """Returns the peak resident set size of this process in MiB."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024


def report(mode, times, **more):
    """Prints a measurement as one line of JSON."""
    print(json.dumps({"mode": mode, "median_s": statistics.median(times), "min_s": min(times), "calls": len(times),
                      "peak_rss_mib": peak_rss_mib(), **more}), flush=True)
