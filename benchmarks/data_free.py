#!/usr/bin/env python3
"""Quantization from the weights alone beside a copy of the same checkpoint, cold cache, in turn.

Usage: data_free.py NARROW MODEL_DIR WORK_DIR [--schemes FP8_DYNAMIC,NVFP4A16] [--rounds N]

For each round: `cp --reflink=never` of the weight files and sync, then `narrow quantize
--skip_calibration` and sync, per scheme. Prints bytes read plus written per second of both, and the
ratio. WORK_DIR is made, used and removed.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import time


def forget(files):
    """Takes the files out of the cache of the operating system."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def size(files):
    return sum(file.stat().st_size for file in files)


def timed(command):
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(['sync', '-f', command[-1]], check=True)
    return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('narrow')
    parser.add_argument('model_dir', type=pathlib.Path)
    parser.add_argument('work_dir', type=pathlib.Path)
    parser.add_argument('--schemes', default='FP8_DYNAMIC,FP8_BLOCK,MXFP4,NVFP4A16,W4A16')
    parser.add_argument('--rounds', type=int, default=3)
    flags = parser.parse_args()

    weights = sorted(flags.model_dir.glob('*.safetensors'))
    source = size(weights)
    flags.work_dir.mkdir()
    try:
        ratios = {}
        for round_number in range(flags.rounds):
            forget(weights)
            copy = flags.work_dir / 'copy'
            copy.mkdir()
            seconds = timed(['cp', '--reflink=never', *map(str, weights), str(copy)])
            rate = 2 * source / seconds
            print(f'round {round_number + 1}: cp and sync {seconds:.2f} s, {rate * 1e-9:.2f} GB/s')
            shutil.rmtree(copy)
            for scheme in flags.schemes.split(','):
                forget(weights)
                output = flags.work_dir / 'output'
                seconds = timed([flags.narrow, 'quantize', '--skip_calibration', '--quant_scheme', scheme,
                                 '--model_dir', str(flags.model_dir), '--output_dir', str(output)])
                moved = source + size(output.glob('*.safetensors'))
                report = json.loads((output / 'narrow-report.json').read_text())
                ratios.setdefault(scheme, []).append(moved / seconds / rate)
                print(f'  {scheme}: {seconds:.2f} s, {moved / seconds * 1e-9:.2f} GB/s, '
                      f'{100 * ratios[scheme][-1]:.0f} % of cp, '
                      f'{report["peak_rss_bytes"] / 2**20:.0f} MiB')
                shutil.rmtree(output)
        for scheme, of_rounds in ratios.items():
            print(f'{scheme}: {100 * statistics.median(of_rounds):.0f} % of cp (median)')
    finally:
        shutil.rmtree(flags.work_dir)


if __name__ == '__main__':
    main()
