#!/usr/bin/env python3
"""Python's huggingface_hub and narrow share one cache: each finds what the other one fetched.

Both fetch from the tests' own hub (tests/support/hub_server.py), each into a cache of its own, then the
other one reads it: without the network, and with it, when nothing may be fetched again.

Usage: exchange_hub_cache.py NARROW     (with a Python that has huggingface_hub; prints what it compared)
"""
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
FILES = {
    'config.json': b'{"model_type": "llama"}\n',
    'tokenizer.json': b'{}\n' * 1000,
    'additional_chat_templates/tool.jinja': b'{{ messages }}',
    'README.md': b'---\nlicense: mit\n---\n',
    'model-00001-of-00002.safetensors': os.urandom(20_000_000),
    'model-00002-of-00002.safetensors': os.urandom(9_000_000),
    'model.safetensors.index.json': json.dumps({'weight_map': {
        'a': 'model-00001-of-00002.safetensors', 'b': 'model-00002-of-00002.safetensors'}}).encode(),
}
# What runs in a Python of its own, since huggingface_hub reads its settings when it is imported.
FETCH = 'import sys, huggingface_hub as h; print(h.snapshot_download("org/model", revision=sys.argv[1]))'
ONE_BY_ONE = ('import sys, huggingface_hub as h\n'
              'for name in sys.argv[2:]: print(h.hf_hub_download("org/model", name, revision=sys.argv[1]))')
SCAN = ('import huggingface_hub as h; info = h.scan_cache_dir(); print(len(info.warnings), '
        '*[f"{r.repo_id} {len(v.files)} {sorted(v.refs)}" for r in info.repos for v in r.revisions], sep="\\n")')


class Exchange:
    def __init__(self, narrow, scratch):
        self.narrow, self.scratch = narrow, scratch
        root = scratch / 'hub'
        for name, contents in FILES.items():
            path = root / 'models/org/model/v1' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents)
        self.log = root / 'log'
        self.server = subprocess.Popen([sys.executable, HERE.parent / 'tests/support/hub_server.py', root],
                                       stdin=subprocess.PIPE)
        while not (root / 'address').exists():
            time.sleep(0.01)
        self.endpoint = 'http://127.0.0.1:' + (root / 'address').read_text().split()[0]

    def run(self, command, cache, offline):
        environment = os.environ | {
            'HF_ENDPOINT': self.endpoint, 'HF_HOME': str(self.scratch / cache), 'HF_HUB_OFFLINE': str(int(offline)),
            'HF_TOKEN': 'hf_of_the_tests', 'HF_HUB_DISABLE_TELEMETRY': '1', 'HF_HUB_DISABLE_PROGRESS_BARS': '1',
            'HF_HUB_DISABLE_UPDATE_CHECK': '1', 'no_proxy': '*'}
        for name in ('HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE', 'TRANSFORMERS_OFFLINE'):
            environment.pop(name, None)
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f'{command} failed ({result.returncode}):\n{result.stdout}{result.stderr}')
        return result.stdout.split('\n')[:-1]

    def python(self, code, cache, *arguments, offline=False):
        return self.run([sys.executable, '-c', code, *arguments], cache, offline)

    def download(self, cache, offline=False):
        [path] = self.run([self.narrow, 'download', 'org/model'], cache, offline)
        return path

    def expect_nothing_fetched(self, what, action):
        before = self.fetched()
        result = action()
        if self.fetched() != before:
            sys.exit(f'{what} fetched again: {self.fetched()[len(before):]}')
        return result

    def fetched(self):
        entries = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [entry['path'] for entry in entries
                if entry['method'] == 'GET' and ('/resolve/' in entry['path'] or entry['host'] == 'cdn')]

    @staticmethod
    def expect_contents(what, directory):
        for name, contents in FILES.items():
            found = (pathlib.Path(directory) / name).read_bytes()
            if hashlib.sha256(found).digest() != hashlib.sha256(contents).digest():
                sys.exit(f'{what}: {name} differs')

    def narrow_to_python(self):
        snapshot = self.download('a')
        self.expect_contents('narrow', snapshot)
        found = self.python(FETCH, 'a', 'main', offline=True)
        assert found == [snapshot], (found, snapshot)
        paths = self.python(ONE_BY_ONE, 'a', 'main', *FILES, offline=True)
        assert paths == [f'{snapshot}/{name}' for name in FILES], paths
        found = self.expect_nothing_fetched('Python', lambda: self.python(FETCH, 'a', 'main'))
        assert found == [snapshot], (found, snapshot)
        scanned = self.python(SCAN, 'a')
        assert scanned == ['0', f"org/model {len(FILES)} ['main']"], scanned
        print(f'Python reads what narrow fetched: {len(FILES)} files, nothing fetched again')

    def python_to_narrow(self):
        [snapshot] = self.python(FETCH, 'b', 'main')
        self.expect_contents('Python', snapshot)
        assert self.download('b', offline=True) == snapshot
        found = self.expect_nothing_fetched('narrow', lambda: self.download('b'))
        assert found == snapshot, (found, snapshot)
        print(f'narrow reads what Python fetched: {len(FILES)} files, nothing fetched again')

    def same_layout(self):
        def layout(cache):
            top = self.scratch / cache / 'hub'
            names = {path.relative_to(top).as_posix(): os.readlink(path) if path.is_symlink() else ''
                     for path in top.rglob('*') if not path.is_dir()}
            return {name: target for name, target in names.items() if '/trees/' not in name}
        narrow, python = layout('a'), layout('b')
        assert narrow == python, (sorted(narrow.items() ^ python.items()))
        print(f'both caches have the same {len(narrow)} names and links (but for listings, trees/)')


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        exchange = Exchange(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(scratch).resolve())
        try:
            exchange.narrow_to_python()
            exchange.python_to_narrow()
            exchange.same_layout()
        finally:
            exchange.server.stdin.close()
            exchange.server.wait()


if __name__ == '__main__':
    main()
