#!/usr/bin/env python3
"""Throughput of `narrow download` from a hub on the loopback address, against curl with four connections (a
range each) followed by sha256sum. Both write one file and know its digest at the end; the server
(tests/support/hub_server.py, sendfile) runs on the same cores.

Usage: hub_throughput.py NARROW [--megabytes 1024] [--rounds 3] [--work DIR]
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SERVER = pathlib.Path(__file__).resolve().parent.parent / 'tests/support/hub_server.py'
CONNECTIONS = 4


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def narrow_download(narrow, hub, cdn, blob, size, scratch):
    environment = os.environ | {'HF_ENDPOINT': hub, 'HF_HUB_CACHE': str(scratch / 'cache'), 'no_proxy': '*',
                                'HF_HUB_OFFLINE': ''}
    subprocess.run([narrow, 'download', 'org/model'], env=environment, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def curl_then_sha256sum(narrow, hub, cdn, blob, size, scratch):
    part = -(-size // CONNECTIONS)
    command = ['curl', '--silent', '--fail', '--parallel', '--parallel-max', str(CONNECTIONS)]
    for i in range(CONNECTIONS):
        command += ['--range', f'{i * part}-{min(size, (i + 1) * part) - 1}', '--output', str(scratch / f'part{i}'),
                    f'{cdn}/blobs/{blob}'] + (['--next', '--silent', '--fail'] if i + 1 < CONNECTIONS else [])
    subprocess.run(command, check=True)
    parts = [str(scratch / f'part{i}') for i in range(CONNECTIONS)]
    shell = 'cat "$@" | sha256sum'
    result = subprocess.run(['sh', '-c', shell, 'sh', *parts], check=True, capture_output=True, text=True)
    assert result.stdout.split()[0] == blob, 'curl fetched something else'


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('Usage: ')[1])
    parser.add_argument('narrow', type=pathlib.Path)
    parser.add_argument('--megabytes', type=int, default=1024)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--work')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        root = pathlib.Path(work) / 'hub'
        folder = root / 'models/org/model/v1'
        folder.mkdir(parents=True)
        (folder / 'config.json').write_text('{}')
        with open(folder / 'model.safetensors', 'wb') as file:
            for _ in range(options.megabytes):
                file.write(os.urandom(1 << 20))
        size = options.megabytes << 20
        blob = subprocess.run(['sha256sum', folder / 'model.safetensors'], check=True, capture_output=True,
                              text=True).stdout.split()[0]
        server = subprocess.Popen([sys.executable, SERVER, root], stdin=subprocess.PIPE)
        try:
            while not (root / 'address').exists():
                time.sleep(0.05)
            hub, cdn = (f'http://127.0.0.1:{port}' for port in (root / 'address').read_text().split()[:2])
            rates = {narrow_download: [], curl_then_sha256sum: []}
            for turn in range(options.rounds):
                for way in list(rates)[::1 if turn % 2 == 0 else -1]:
                    scratch = pathlib.Path(work) / 'scratch'
                    scratch.mkdir()
                    seconds = timed(lambda: way(options.narrow.resolve(), hub, cdn, blob, size, scratch))
                    shutil.rmtree(scratch)
                    rates[way].append(size / seconds / 1e6)
            for way, found in rates.items():
                print(f'{way.__name__.replace("_", " ")}: {statistics.median(found):.0f} MB/s '
                      f'({", ".join(f"{rate:.0f}" for rate in found)})')
            print(f'share: {statistics.median(rates[narrow_download]) / statistics.median(rates[curl_then_sha256sum]):.0%}')
        finally:
            server.stdin.close()
            server.wait()


if __name__ == '__main__':
    main()
