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


def swapped_out():
    with open("/proc/vmstat", encoding="ascii") as lines:
        return next((int(l.split()[1]) for l in lines if l.startswith("pswpout ")), 0)


def run(command):
    """(seconds, peak resident bytes, pages swapped out); exits when the command fails."""
    swapped, start = swapped_out(), time.monotonic()
    process = os.spawnv(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(process, 0)
    seconds = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        sys.exit(f"bench_405b_report.py: {command[0]} ended with status {code}")
    return seconds, usage.ru_maxrss * 1024, swapped_out() - swapped


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


def extrapolate(plan, layer_seconds, rest_seconds):
    layers = phase(plan, "layers")
    here = WHOLE_LAYERS * layer_seconds + rest_seconds
    print(f"\nExtrapolated to {WHOLE_LAYERS} layers with the same texts, not measured")
    print(f"  here: {duration(here)} (layers as measured, {duration(layer_seconds)} each; embedding, "
          f"head and writing once)")
    disk_parts = ("reading", "spilling", "writing")
    parts = layers["seconds_of"]
    compute = sum(s for name, s in parts.items() if not name.startswith(disk_parts))
    share = compute / max(layers["seconds"], 1e-9)
    faster = SERVER_CORES * SERVER_SCALING / plan["threads"]
    disk_bytes = sum(layers[k] for k in ("read_bytes", "written_bytes", "spill_read_bytes",
                                         "spill_written_bytes")) / plan["layers"]
    # On many cores the disk may be what a layer waits for.
    server_layer = max(layer_seconds * share / faster, disk_bytes / SERVER_DISK)
    server = WHOLE_LAYERS * server_layer + rest_seconds / faster
    print(f"  {SERVER_CORES} cores: {duration(server)} (assumes the products of a core here times "
          f"{SERVER_SCALING} with all of them busy,\n    {SERVER_DISK / 1e9:.0f} GB/s of disk, the "
          "longer of the two in every layer)")


def main():
    directory, output, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    with open(os.path.join(directory, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    seconds, peak, swapped = run(command)
    with open(os.path.join(output, "narrow-report.json"), encoding="utf-8") as file:
        report = json.load(file)

    layer_seconds = [layer["seconds"] for layer in report["layers"]]
    layers_total = sum(layer_seconds)
    parts = report["seconds"]
    per_layer = len(layer_seconds)
    head = phase(plan, "head")
    # Evaluation includes the losses of the head, which the plan knows apart.
    computing = parts["calibration"] + parts["quantization"] + parts["evaluation"]
    head_seconds = max(0.0, seconds - layers_total)
    in_layers = max(0.0, parts["evaluation"] - min(head["seconds"], parts["evaluation"]))
    loading = max(0.0, layers_total - parts["calibration"] - parts["quantization"] - in_layers)

    print("\nMeasured")
    print(f"  peak resident memory         {peak / GIB:.2f} GiB of {plan['memory']['budget_bytes'] / GIB:.2f} "
          f"GiB (kernel); pages swapped out meanwhile on this machine: {swapped}")
    print(f"  a layer                      {duration(layers_total / per_layer)}: "
          + ", ".join(duration(s) for s in layer_seconds))
    print(f"    waiting for weights, packing   {duration(loading / per_layer)}")
    print(f"    calibration                    {duration(parts['calibration'] / per_layer)}")
    print(f"    rounding and writing           {duration(parts['quantization'] / per_layer)}")
    print(f"    evaluation                     {duration(in_layers / per_layer)}")
    products = phase(plan, "layers")["seconds_of"].get("products", 0)
    work = sum(p["flops"] for p in plan["phases"])
    rate = plan["rates"]["products_flops"]
    print(f"  sustained                    {work / computing * 1e-9:.0f} GFLOP/s of {rate * 1e-9:.0f} "
          f"GFLOP/s of products alone: {100 * work / computing / rate:.0f} %")
    read = plan["total"]["read_bytes"] / seconds
    print(f"  weights read                 {read * 1e-9:.2f} GB/s of the disk's "
          f"{plan['rates']['disk_read_bytes'] * 1e-9:.2f} GB/s")
    print("Prediction and measurement")
    compare("peak memory", plan["memory"]["peak_bytes"] / GIB, peak / GIB, "{:.2f} GiB".format)
    compare("time in all", plan["total"]["seconds"], seconds, duration)
    compare("time of layers", phase(plan, "layers")["seconds"], layers_total, duration)
    print(f"  (of the layers' time the plan gives {duration(products)} to products)")
    extrapolate(plan, layers_total / per_layer, head_seconds)
    print(f"\nThe models stay in {directory}; remove it to have the space back")
    if plan["memory"]["budget_bytes"] < peak:
        sys.exit("bench_405b_report.py: the process took more memory than its budget")


if __name__ == "__main__":
    main()
