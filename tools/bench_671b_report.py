#!/usr/bin/env python3
"""Runs a job on three layers of DeepSeek-V3 and prints its memory and time beside what `narrow plan` predicted.

Usage: bench_671b_report.py DIRECTORY OUTPUT COMMAND...
DIRECTORY holds plan.json and plan-fp8.json, and config.json of the model; OUTPUT is where COMMAND leaves
narrow-report.json. Peak memory is the kernel's ru_maxrss of the process.
"""
import json
import os
import sys

from bench_405b_report import GIB, compare, duration, phase, run

DENSE_LAYERS, EXPERT_LAYERS, EXPERTS = 3, 58, 256
TOKENS = 128 * 512  # of calibration, in the job that is extrapolated to


def print_layer(number, layer):
    times, experts = layer['times'], layer['times'].get('experts')
    print(f'  layer {number}: {duration(layer["seconds"])}' + (', with experts' if experts else ', dense'))
    parts = {'in it': times}
    if experts:
        parts = {'experts': experts,
                 'without them': {name: times[name] - experts[name] for name in times if name != 'experts'}}
    for what, seconds in parts.items():
        print(f'    {what:<14}' + ', '.join(
            f'{name} {duration(seconds[name])}' for name in ('loading', 'calibration', 'quantization', 'evaluation')))
    for what in ('read', 'written'):
        print(f'    {what:<14}{layer[what]["bytes"] * 1e-9:.2f} GB')


def gemm_share(layers, peak):
    experts = [layer['times']['experts'] for layer in layers if 'experts' in layer['times']]
    rate = sum(e['flops'] for e in experts) / sum(e['calibration'] + e['evaluation'] for e in experts)
    print(f'  products of the experts: {rate * 1e-9:.0f} GFLOP/s in calibration and evaluation, ranges, gathering and adding '
          f'included:\n    {100 * rate / peak:.0f} % of the {peak * 1e-9:.0f} GFLOP/s of products alone')


def extrapolate(layers, plan, config, rest):
    """With more tokens calibration takes longer in proportion, all else does not."""
    more = TOKENS / plan['calibration_tokens']
    scale = EXPERTS / config['n_routed_experts']

    def longer(layer):
        times, experts = layer['times'], layer['times'].get('experts')
        seconds = layer['seconds'] + (more - 1) * times['calibration']
        if experts:  # fewer experts than the model has: each takes as long, with as many tokens in all
            seconds += (scale - 1) * (experts['loading'] + experts['quantization'])
        return seconds

    dense = [longer(layer) for layer in layers if 'experts' not in layer['times']]
    sparse = [longer(layer) for layer in layers if 'experts' in layer['times']]
    whole = DENSE_LAYERS * sum(dense) / len(dense) + EXPERT_LAYERS * sum(sparse) / len(sparse)
    print(f'\nExtrapolated to {DENSE_LAYERS} dense and {EXPERT_LAYERS} expert layers and {TOKENS} calibration tokens, not '
          f'measured: {duration(whole + rest)}\n  a dense layer {duration(sum(dense) / len(dense))}, one with experts '
          f'{duration(sum(sparse) / len(sparse))}: calibration times {more:g}, all else as measured'
          + ('' if scale == 1 else f', experts times {scale:g}')
          + f';\n  embedding, head and start once, {duration(rest)}; hidden states in memory, which for so many tokens '
          f'takes\n  {2 * TOKENS * config["hidden_size"] * 4 / GIB:.1f} GiB more')


def main():
    directory, output, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    read = {}
    for name in ('plan', 'plan-fp8', 'config'):
        with open(os.path.join(directory, name + '.json'), encoding='utf-8') as file:
            read[name] = json.load(file)
    plan = read['plan']
    seconds, usage, swapped = run(command)
    with open(os.path.join(output, 'narrow-report.json'), encoding='utf-8') as file:
        report = json.load(file)
    layers, peak = report['layers'], usage.ru_maxrss * 1024
    total = sum(layer['seconds'] for layer in layers)
    print('\nMeasured')
    print(f'  peak resident memory  {peak / GIB:.2f} GiB of {plan["memory"]["budget_bytes"] / GIB:.2f} GiB (kernel, wait4); '
          f'pages swapped out meanwhile on this machine: {swapped}')
    print(f'  time in all           {duration(seconds)}; of processors {duration(usage.ru_utime)} in the program, '
          f'{duration(usage.ru_stime)} in the kernel')
    for number, layer in enumerate(layers):
        print_layer(number, layer)
    gemm_share(layers, plan['rates']['products_flops'])
    print('Prediction and measurement')
    compare('peak memory', plan['memory']['peak_bytes'] / GIB, peak / GIB, '{:.2f} GiB'.format)
    compare('time in all', plan['total']['seconds'], seconds, duration)
    compare('time of layers', phase(plan, 'layers')['seconds'], total, duration)
    fp8 = read['plan-fp8']
    print(f'  the same job with an FP8 output: plan {fp8["memory"]["peak_bytes"] / GIB:.2f} GiB, '
          f'{duration(fp8["total"]["seconds"])}, {fp8["total"]["written_bytes"] * 1e-9:.1f} GB written')
    extrapolate(layers, plan, read['config'], max(0.0, seconds - total))
    if plan['memory']['budget_bytes'] < peak:
        sys.exit('bench_671b_report.py: the process took more memory than its budget')


if __name__ == '__main__':
    main()
