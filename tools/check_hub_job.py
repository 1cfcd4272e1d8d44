#!/usr/bin/env python3
"""The job of the README by a model's name: a local checkpoint is served as several weight files by the tests'
own hub (tests/support/hub_server.py), and quantized three times: from its directory; by org/name; and with --stream
within a disk limit below the checkpoint's size, killed at random moments and continued. All three outputs must be
the same bytes, and their evaluations the same figures.

Usage: check_hub_job.py NARROW MODEL_DIR [--data_dir DIR] [--shards 8] [--deaths 5] [--seed 1] [FLAG...]

DIR holds pile_sample.jsonl or val.jsonl.zst, and wiki.test.raw (else the built-in corpus stands in); FLAGs are added
to every run. Prints what it saw; exit status 0 when all of it holds.
"""
import argparse
import filecmp
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SERVER = pathlib.Path(__file__).resolve().parent.parent / 'tests/support/hub_server.py'
OUTPUT = 'Meta-Llama-3.1-405B-Instruct-FP8-KV'
CONTRACT = ['--quant_scheme', 'w_fp8_a_fp8', '--kv_cache_dtype', 'fp8', '--num_calib_data', '128',
            '--model_export', 'quark_safetensors', '--no_weight_matrix_merge', '--custom_mode', 'fp8', '--multi_gpu']
OF_A_RUN = {'README.md', 'report.html', 'narrow-report.json', 'narrow-output.json'}  # times, memory, command lines
MEASURED = set(re.findall(r'"(\w+)"', (SERVER.parents[2] / 'src/report/measured_members.h').read_text().split('= {', 1)[1]))
# What tells how the model was named is another, too.
OTHERS = MEASURED | {'model', 'warnings'}


def write_shards(source, folder, count):
    """The checkpoint as `count` files of about the same size, tensors in the order of the source. Returns sizes."""
    with open(source / 'model.safetensors', 'rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(length))
        header.pop('__metadata__', None)
        tensors = sorted(header.items(), key=lambda item: (layer_of(item[0]), item[1]['data_offsets']))
        total = sum(entry['data_offsets'][1] - entry['data_offsets'][0] for _, entry in tensors)
        groups, done = [[] for _ in range(count)], 0
        for name, entry in tensors:
            groups[min(count - 1, done * count // total)].append((name, entry))
            done += entry['data_offsets'][1] - entry['data_offsets'][0]
        groups = [group for group in groups if group]
        weight_map, sizes = {}, []
        for number, group in enumerate(groups, 1):
            name = f'model-{number:05}-of-{len(groups):05}.safetensors'
            end, entries = 0, {}
            for tensor, entry in group:
                bytes_ = entry['data_offsets'][1] - entry['data_offsets'][0]
                entries[tensor] = entry | {'data_offsets': [end, end + bytes_]}
                weight_map[tensor] = name
                end += bytes_
            text = json.dumps(entries).encode()
            text += b' ' * (-len(text) % 8)
            with open(folder / name, 'wb') as shard:
                shard.write(len(text).to_bytes(8, 'little') + text)
                for _, entry in group:
                    file.seek(8 + length + entry['data_offsets'][0])
                    shard.write(file.read(entry['data_offsets'][1] - entry['data_offsets'][0]))
            sizes.append((folder / name).stat().st_size)
    (folder / 'model.safetensors.index.json').write_text(
        json.dumps({'metadata': {'total_size': total}, 'weight_map': weight_map}))
    return sizes


def layer_of(name):
    parts = name.split('.')
    numbers = [int(part) for part in parts if part.isdigit()]
    return numbers[0] if numbers else -1 if 'embed' in name else 1 << 30


def without(value, members):
    if isinstance(value, dict):
        return {name: without(one, members) for name, one in value.items() if name not in members}
    return [without(one, members) for one in value] if isinstance(value, list) else value


class Check:
    def __init__(self, options, flags, scratch):
        self.options, self.flags, self.scratch = options, flags, scratch
        folder = scratch / 'hub/models/org/model/v1'
        folder.mkdir(parents=True)
        self.sizes = write_shards(options.model, folder, options.shards)
        for path in options.model.iterdir():
            if path.suffix != '.safetensors' and path.name != 'narrow-output.json':
                shutil.copy(path, folder / path.name)
        self.server = subprocess.Popen([sys.executable, SERVER, scratch / 'hub'], stdin=subprocess.PIPE)
        while not (scratch / 'hub/address').exists():
            time.sleep(0.05)
        port = (scratch / 'hub/address').read_text().split()[0]
        self.environment = os.environ | {
            'HF_ENDPOINT': f'http://127.0.0.1:{port}', 'HF_HOME': str(scratch / 'home'), 'HF_HUB_OFFLINE': '',
            'TRANSFORMERS_OFFLINE': '', 'no_proxy': '*', 'NARROW_DATA_DIR': str(options.data_dir or scratch)}
        self.environment.pop('HF_HUB_CACHE', None)

    def command(self, model):
        return [str(self.options.narrow.resolve()), 'quantize', '--model_dir', model, '--output_dir', OUTPUT,
                *CONTRACT, *self.flags]

    def place(self, name):
        (self.scratch / name).mkdir()
        return self.scratch / name

    def run(self, name, model):
        place = self.place(name)
        start = time.monotonic()
        result = subprocess.run(self.command(model), cwd=place, env=self.environment, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f'{name}: status {result.returncode}\n{result.stderr}')
        print(f'{name}: {time.monotonic() - start:.1f} s', flush=True)
        return time.monotonic() - start, place / OUTPUT

    def streamed(self, seconds):
        place = self.place('streamed')
        shards = place / f'.{OUTPUT}.narrow-work.shards'
        limit = self.sizes[0] + max(a + b for a, b in zip(self.sizes, self.sizes[1:]))
        assert limit < sum(self.sizes), 'the limit is not below the size of the checkpoint'
        command = self.command('org/model') + ['--stream', '--stream_disk', str(limit), '--save_interval', '0']
        deaths, most, continued = 0, 0, 0
        while not (place / OUTPUT).exists():
            with open(self.scratch / 'errors', 'w+') as errors:
                process = subprocess.Popen(command, cwd=place, env=self.environment, stdout=subprocess.DEVNULL,
                                           stderr=errors)
                # Whatever a death leaves half done, what was saved goes on: so the moments need not come in order.
                end = time.monotonic() + random.uniform(0.5, seconds * 0.6)
                while process.poll() is None and (deaths >= self.options.deaths or time.monotonic() < end):
                    most = max(most, sum(entry.stat().st_size for entry in self.entries(shards)))
                    time.sleep(0.01)
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    deaths += 1
                process.wait()
                errors.seek(0)
                text = errors.read()
                continued += 'Continuing after layer' in text
                if process.returncode not in (0, -signal.SIGKILL):
                    sys.exit(f'streamed: status {process.returncode}\n{text}')
        print(f'streamed: {sum(self.sizes) / 1e6:.1f} MB in {len(self.sizes)} files, limit {limit / 1e6:.1f} MB, '
              f'at most {most / 1e6:.1f} MB there; killed {deaths} times, continued after a saved layer {continued} times', flush=True)
        assert most <= limit + 1000, 'more on the disk than the limit'
        assert deaths > 0 and continued > 0, 'no death that left a state: more --deaths'
        assert not shards.exists(), 'weight files are left'
        weights = [path for path in (self.scratch / 'home').rglob('*.safetensors')]
        return place / OUTPUT, weights

    @staticmethod
    def entries(folder):
        try:
            return [entry for entry in os.scandir(folder) if entry.is_file()]
        except FileNotFoundError:
            return []

    @staticmethod
    def compare(expected, found):
        names = {path.name for path in expected.iterdir()}
        assert names == {path.name for path in found.iterdir()}, names ^ {path.name for path in found.iterdir()}
        same = sorted(names - OF_A_RUN)
        for name in same:
            assert filecmp.cmp(expected / name, found / name, shallow=False), f'{name} differs'
        reports = [json.loads((path / 'narrow-report.json').read_text()) for path in (expected, found)]
        reports = [without(report, OTHERS) for report in reports]
        for member in reports[0]:
            assert reports[0][member] == reports[1].get(member), f'{member} of the reports differs'
        print(f'same bytes: {", ".join(same)}; same members of the report: {", ".join(reports[0])}; '
              f'calibrated on {reports[0]["calibration"]}')


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('Usage: ')[1])
    parser.add_argument('narrow', type=pathlib.Path)
    parser.add_argument('model', type=pathlib.Path)
    parser.add_argument('--data_dir', type=pathlib.Path)
    parser.add_argument('--shards', type=int, default=8)
    parser.add_argument('--deaths', type=int, default=5)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--work', help='directory for everything (default: $TMPDIR)')
    options, flags = parser.parse_known_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(dir=options.work) as scratch:
        check = Check(options, flags, pathlib.Path(scratch).resolve())
        try:
            print('narrow quantize --model_dir org/model', *check.command('')[4:], flush=True)
            seconds, local = check.run('local', str(options.model.resolve()))
            streamed, weights = check.streamed(seconds)
            assert not weights, f'weights in the cache: {weights}'
            check.compare(local, streamed)
            _, named = check.run('named', 'org/model')
            check.compare(local, named)
        finally:
            check.server.stdin.close()
            check.server.wait()


if __name__ == '__main__':
    main()
