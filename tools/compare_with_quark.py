#!/usr/bin/env python3
"""Quantizes one model with AMD Quark and with narrow, in turn on one machine, and prints time and memory.

Usage: compare_with_quark.py NARROW MODEL_DIR DOCUMENTS.jsonl [--documents 128] [--tokens 512] [--runs 3]
                             [--python PYTHON] [--work DIR]
Every run is a process of its own, from its start to the written checkpoint: Quark 0.13 by
tools/quark_quantize.py, narrow to nearest as Quark rounds, and narrow by default; the order turns round from run
to run. What each reads is in the page cache, and Quark's kernels are compiled, after a first run on four documents
that is not counted. PYTHON has amd-quark 0.13, torch and transformers; without it they are installed from the
package index into a virtual environment in DIR (default: quark-comparison beside NARROW; python3-venv comes with
`tools/setup.sh package`). Nothing else should
run meanwhile.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

TOOLS = pathlib.Path(__file__).resolve().parent
VERSION = '0.13'
QUARK, NEAREST, DEFAULT = 'Quark ' + VERSION, 'narrow to nearest', 'narrow'


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__.split('Usage: ')[1].split('\nEvery')[0])
    parser.add_argument('narrow', type=pathlib.Path)
    parser.add_argument('model_dir', type=pathlib.Path)
    parser.add_argument('documents_file', type=pathlib.Path)
    parser.add_argument('--documents', type=int, default=128)
    parser.add_argument('--tokens', type=int, default=512)
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--python')
    parser.add_argument('--work', type=pathlib.Path)
    options = parser.parse_args()
    options.work = options.work or options.narrow.resolve().parent / 'quark-comparison'
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def python_with_quark(options):
    if not options.python:
        environment = options.work / 'venv'
        options.python = str(environment / 'bin' / 'python')
        if not environment.exists():
            subprocess.run([sys.executable, '-m', 'venv', environment], check=True)
            subprocess.run([options.python, '-m', 'pip', 'install', '--quiet', f'amd-quark=={VERSION}',
                            'torch', 'transformers'], check=True)
    found = subprocess.run([options.python, '-c', 'from importlib.metadata import version as v; '
                            'print(v("amd-quark"), v("torch"), v("transformers"))'],
                           check=True, capture_output=True, text=True).stdout.split()
    if found[0] != VERSION:
        sys.exit(f'compare_with_quark.py: {options.python} has amd-quark {found[0]}, not {VERSION}')
    return found


def run(command, log):
    """(seconds, peak resident bytes, last line written); exits when the command fails."""
    start = time.monotonic()
    with open(log, 'w', encoding='utf-8') as output:
        process = subprocess.Popen([str(part) for part in command], stdout=output,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = pathlib.Path(log).read_text(encoding='utf-8').splitlines() or ['']
    if process.returncode != 0:
        sys.exit(f'compare_with_quark.py: {command[0]} ended with {process.returncode}: {lines[-1]} '
                 f'(all of it: {log})')
    return seconds, usage.ru_maxrss * 1024, lines


class Jobs:
    def __init__(self, options):
        self.options = options

    def quark(self, documents):
        output = self.options.work / 'quark'
        shutil.rmtree(output, ignore_errors=True)
        seconds, peak, lines = run(
            [self.options.python, TOOLS / 'quark_quantize.py', self.options.model_dir,
             self.options.documents_file, documents, self.options.tokens, output],
            self.options.work / 'quark.log')
        facts = json.loads(next(line for line in reversed(lines) if line.startswith('{')))
        return seconds, peak, facts

    def narrow(self, documents, flags):
        output = self.options.work / 'narrow'
        seconds, peak, _ = run(
            [self.options.narrow, 'quantize', '--model_dir', self.options.model_dir, '--output_dir', output,
             '--overwrite', '--resume', 'never', '--quant_scheme', 'w_fp8_a_fp8', '--kv_cache_dtype', 'fp8',
             '--model_export', 'quark_safetensors', '--no_weight_matrix_merge', '--custom_mode', 'fp8',
             '--dataset', self.options.documents_file, '--num_calib_data', documents,
             '--seq_len', self.options.tokens, '--skip_evaluation', *flags],
            self.options.work / 'narrow.log')
        report = json.loads((output / 'narrow-report.json').read_text(encoding='utf-8'))
        return seconds, peak, {'tokens': report['calibration']['tokens']}

    def by_name(self, name, documents):
        if name == QUARK:
            return self.quark(documents)
        flags = ['--quant_algo', 'none', '--head_basis', 'none'] if name == NEAREST else []
        return self.narrow(documents, flags)


def spread(values, form):
    return (f'{form.format(statistics.median(values))} ({form.format(min(values))} to '
            f'{form.format(max(values))})')


def main():
    options = arguments()
    quark, torch, transformers = python_with_quark(options)
    print(f'amd-quark {quark}, torch {torch}, transformers {transformers}; {os.cpu_count()} processors; '
          f'load before: {os.getloadavg()[0]:.2f}')
    jobs = Jobs(options)
    names = [QUARK, NEAREST, DEFAULT]
    for name in names:
        jobs.by_name(name, min(4, options.documents))
    seconds = {name: [] for name in names}
    memory = {name: [] for name in names}
    own = []
    for i in range(options.runs):
        tokens = set()
        for name in names if i % 2 == 0 else names[::-1]:
            taken, peak, facts = jobs.by_name(name, options.documents)
            seconds[name].append(taken)
            memory[name].append(peak)
            tokens.add(facts['tokens'])
            own += [facts['seconds']] if name == QUARK else []
            print(f'run {i + 1}: {name}: {taken:.1f} s, {peak / 2**20:.0f} MiB, {facts["tokens"]} tokens',
                  flush=True)
        if len(tokens) != 1:
            sys.exit(f'compare_with_quark.py: calibrated on different numbers of tokens: {tokens}')
    print(f'\n{options.documents} documents, {options.runs} runs, median (smallest to largest)')
    for name in names:
        print(f'  {name:<18} {spread(seconds[name], "{:.1f}")} s, '
              f'{spread([peak / 2**20 for peak in memory[name]], "{:.0f}")} MiB')
    print(f'  {QUARK} without loading its libraries: {spread(own, "{:.1f}")} s')
    for name in names[1:]:
        ratios = [a / b for a, b in zip(seconds[QUARK], seconds[name])]
        lean = [a / b for a, b in zip(memory[QUARK], memory[name])]
        print(f'  {QUARK} takes {spread(ratios, "{:.2f}")} times as long as {name}, and '
              f'{spread(lean, "{:.1f}")} times the memory')


if __name__ == '__main__':
    main()
