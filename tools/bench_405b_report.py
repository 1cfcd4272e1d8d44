#!/usr/bin/env python3
"""Runs a job and prints its memory and time beside what `narrow plan` predicted.

Usage: bench_405b_report.py DIRECTORY OUTPUT COMMAND...
DIRECTORY holds plan.json; OUTPUT is where COMMAND leaves narrow-report.json. Peak memory is the
kernel's ru_maxrss of the process, and swapping what /proc/vmstat counts meanwhile.
"""
import json
import os
import sys
import time

GIB = 2.0**30
WHOLE_LAYERS = 126
# The server of the extrapolation; every figure is an assumption and printed as one.
SERVER_CORES = 64
SERVER_SCALING = 0.8  # of the products of a core here, with all cores busy
SERVER_DISK = 3e9  # bytes per second, both ways
SERVER_ROUNDING_CORES = 4  # 2 in the widest matrices, 8 in the others


def swapped_out():
    with open("/proc/vmstat", encoding="ascii") as lines:
        return next((int(l.split()[1]) for l in lines if l.startswith("pswpout ")), 0)


def run(command):
    """(seconds, resource usage, pages swapped out); exits when the command fails."""
    swapped, start = swapped_out(), time.monotonic()
    process = os.spawnv(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(process, 0)
    seconds = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        sys.exit(f"bench_405b_report.py: {command[0]} ended with status {code}")
    return seconds, usage, swapped_out() - swapped


def duration(seconds):
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 86400:.1f} days"


def compare(what, predicted, measured, form):
    off = 100 * (predicted / measured - 1) if measured else float("nan")
    print(f"  {what:<28} plan {form(predicted):>12}   measured {form(measured):>12}   "
          f"plan off by {off:+.0f} %")


def phase(plan, name):
    return next(p for p in plan["phases"] if p["name"] == name)


def server_layer(plan, layer):
    """Seconds of a layer on the server: parts of the plan, at the measured layer's pace."""
    layers, threads = phase(plan, "layers"), plan["threads"]
    pace = layer * plan["layers"] / layers["seconds"]
    faster = SERVER_CORES * SERVER_SCALING / threads
    rounding_threads = min(SERVER_CORES, SERVER_ROUNDING_CORES)
    seconds = 0
    for name, part in layers["seconds_of"].items():
        if name.startswith(("reading", "spilling")):
            continue
        speed = rounding_threads * SERVER_SCALING / threads if name == "rounding" else faster
        seconds += part * pace / max(speed, 1) / plan["layers"]
    disk_bytes = sum(layers[k] for k in ("read_bytes", "written_bytes", "spill_read_bytes",
                                         "spill_written_bytes")) / plan["layers"]
    # On many cores the disk may be what a layer waits for.
    return max(seconds, disk_bytes / SERVER_DISK)


def extrapolate(plan, layer, rest):
    here = WHOLE_LAYERS * layer + rest
    print(f"\nExtrapolated to {WHOLE_LAYERS} layers with the same texts, not measured")
    print(f"  here: {duration(here)} ({WHOLE_LAYERS} times the layer as measured, {duration(layer)}; "
          "embedding, head and start once)")
    server = WHOLE_LAYERS * server_layer(plan, layer) + rest
    print(f"  {SERVER_CORES} cores: {duration(server)} (assumes cores like these, each at "
          f"{SERVER_SCALING} of its speed here with all of them busy;\n    at most "
          f"{SERVER_ROUNDING_CORES} of them busy with rounding, which takes 256 to 1024 rows at a "
          f"time;\n    {SERVER_DISK / 1e9:.0f} GB/s of disk, the longer of disk and computing in "
          "every layer; the rest as here)")


def transfers(layers, what, rate):
    size = sum(layer[what]["bytes"] for layer in layers) / len(layers)
    seconds = sum(layer[what]["seconds"] for layer in layers) / len(layers)
    speed = size / seconds if seconds else 0
    return (f"{duration(seconds)} for {size * 1e-9:.2f} GB: {speed * 1e-9:.2f} GB/s, "
            f"{100 * speed / rate:.0f} % of the disk's {rate * 1e-9:.2f} GB/s")


def print_measured(plan, report, seconds, usage, swapped):
    layers, parts, rates = report["layers"], report["seconds"], plan["rates"]
    count = len(layers)
    total = sum(layer["seconds"] for layer in layers)
    loading = sum(layer["loading_seconds"] for layer in layers)
    # Evaluation is that of the layers and the losses of the head.
    in_layers = max(0.0, total - loading - parts["calibration"] - parts["quantization"])
    budget = plan["memory"]["budget_bytes"]
    print("\nMeasured")
    print(f"  peak resident memory  {usage.ru_maxrss / 2**20:.2f} GiB of {budget / GIB:.2f} GiB "
          f"(kernel, wait4); pages swapped out meanwhile on this machine: {swapped}")
    print(f"  time in all           {duration(seconds)}; of processors {duration(usage.ru_utime)} in "
          f"the program, {duration(usage.ru_stime)} in the kernel")
    print(f"  a layer               {duration(total / count)}: "
          + ", ".join(duration(layer["seconds"]) for layer in layers))
    print(f"    loading             {duration(loading / count)} (waiting, reading what was not ahead, "
          "packing)")
    print(f"    calibration         {duration(parts['calibration'] / count)}")
    print(f"    rounding, writing   {duration(parts['quantization'] / count)}")
    print(f"    evaluation          {duration(in_layers / count)}")
    print(f"    read in it          {transfers(layers, 'read', rates['disk_read_bytes'])}")
    print(f"    written in it       {transfers(layers, 'written', rates['disk_write_bytes'])}")
    forward = phase(plan, "layers")["forward_flops"] / (parts["calibration"] + in_layers)
    print(f"  sustained             {forward * 1e-9:.0f} GFLOP/s in calibration (statistics included) "
          f"and evaluation of layers:\n                        "
          f"{100 * forward / rates['products_flops']:.0f} % of the "
          f"{rates['products_flops'] * 1e-9:.0f} GFLOP/s of products alone")
    return total


def main():
    directory, output, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    with open(os.path.join(directory, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    seconds, usage, swapped = run(command)
    with open(os.path.join(output, "narrow-report.json"), encoding="utf-8") as file:
        report = json.load(file)
    total = print_measured(plan, report, seconds, usage, swapped)
    peak = usage.ru_maxrss * 1024
    print("Prediction and measurement")
    compare("peak memory", plan["memory"]["peak_bytes"] / GIB, peak / GIB, "{:.2f} GiB".format)
    compare("time in all", plan["total"]["seconds"], seconds, duration)
    compare("time of layers", phase(plan, "layers")["seconds"], total, duration)
    extrapolate(plan, total / len(report["layers"]), max(0.0, seconds - total))
    print(f"\nThe models stay in {directory}; remove it to have the space back")
    if plan["memory"]["budget_bytes"] < peak:
        sys.exit("bench_405b_report.py: the process took more memory than its budget")


if __name__ == "__main__":
    main()
