"""A hub on the loopback address for tests: repositories out of a folder, and faults on request.

Usage: hub_server.py ROOT     (ends with its standard input, or when it is killed)

ROOT holds
  models/ORG/NAME/REVISION/...    files of a revision (datasets/ likewise); the newest of several
                                  revisions of a repository, by name, is what "main" is first
  tls.pem                         optional: key and certificate; hub and cdn then speak https
  faults.json                     optional: a list of objects, each with
      match      a regular expression for "HOST PATH", HOST being hub, cdn or
                                  plain (a hub by http, beside one by https)
      times      how often it strikes (default: always), after the first `after` matches (default: 0)
      and what happens, one or several of:
      status, headers             this answer, without a body; {hub}, {cdn} and {plain} in the
                                  headers become the ports, {path} that of the request
      body                        this text, with status 200
      cut                         the connection ends after so many bytes of the body
      stall                       seconds without a byte in the middle of the body
      flip                        this byte of the file has another value
      length                      Content-Length is off by so much
      no_ranges                   Range is ignored
      endless                     the body does not end
      range_off                   Content-Range is off by so much
      main                        "main" is this revision from here on
      rename                      {"FROM": "TO"} for paths of a listing
      commit                      X-Repo-Commit says this
It writes ROOT/address (the three ports, once it listens) and ROOT/log, a JSON line per request.
"""
import hashlib
import http.server
import json
import os
import re
import ssl
import sys
import threading
import time
import urllib.parse

ROOT = sys.argv[1]
LOCK = threading.Lock()
LARGE = ('.safetensors', '.zst', '.parquet', '.bin')
PAGE = 4  # entries of a listing per page
BLOCK = 1 << 20
SCHEME = 'https' if os.path.exists(os.path.join(ROOT, 'tls.pem')) else 'http'


def commit_of(kind, name, revision):
    return hashlib.sha1(f'{kind}/{name}/{revision}'.encode()).hexdigest()


class File:
    def __init__(self, path, name):
        self.path, self.size = path, os.path.getsize(path)
        self.large = name.endswith(LARGE)
        sha256, sha1 = hashlib.sha256(), hashlib.sha1(f'blob {self.size}\0'.encode())
        with open(path, 'rb') as file:
            while block := file.read(BLOCK):
                (sha256 if self.large else sha1).update(block)
        pointer = f'version https://git-lfs.github.com/spec/v1\noid sha256:{sha256.hexdigest()}\nsize {self.size}\n'
        pointer_id = hashlib.sha1(f'blob {len(pointer)}\0{pointer}'.encode()).hexdigest()
        self.blob = sha256.hexdigest() if self.large else sha1.hexdigest()
        self.oid = pointer_id if self.large else self.blob


class Repository:
    def __init__(self, kind, name, folder):
        self.commits, self.names = {}, {}
        for revision in sorted(os.listdir(folder)):
            commit = commit_of(kind, name, revision)
            top = os.path.join(folder, revision)
            files = {}
            for where, _, found in os.walk(top):
                for file in found:
                    path = os.path.join(where, file)
                    inside = os.path.relpath(path, top)
                    files[inside] = File(path, inside)
            self.commits[commit] = dict(sorted(files.items()))
            self.names[revision] = self.names['main'] = commit


def repositories():
    found = {}
    for kind in ('models', 'datasets'):
        base = os.path.join(ROOT, kind)
        for org in sorted(os.listdir(base)) if os.path.isdir(base) else []:
            for name in sorted(os.listdir(os.path.join(base, org))):
                found[kind, f'{org}/{name}'] = Repository(kind, f'{org}/{name}',
                                                          os.path.join(base, org, name))
    return found


REPOSITORIES = repositories()
BLOBS = {file.blob: file for repository in REPOSITORIES.values()
         for files in repository.commits.values() for file in files.values()}
try:
    with open(os.path.join(ROOT, 'faults.json')) as faults:
        FAULTS = json.load(faults)
except FileNotFoundError:
    FAULTS = []
for one in FAULTS:
    one['left'] = one.get('times', float('inf'))
    one['early'] = one.get('after', 0)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    host = 'hub'
    scheme = SCHEME
    wbufsize = 1 << 16

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        target = re.sub(r'^http://[^/]*', '', self.path)  # as a proxy is asked
        url = urllib.parse.urlsplit(target)
        path = urllib.parse.unquote(url.path)
        self.fault = {}
        with LOCK:
            for fault in FAULTS:
                if not re.search(fault['match'], f'{self.host} {path}'):
                    continue
                if fault['early'] > 0:
                    fault['early'] -= 1
                elif fault['left'] > 0:
                    fault['left'] -= 1
                    self.fault |= fault
            entry = {'host': self.host, 'method': self.command, 'path': path, 'query': url.query,
                     'target': self.path, 'to': self.headers.get('Host'), 'range': self.headers.get('Range'),
                     'authorization': self.headers.get('Authorization')}
            with open(os.path.join(ROOT, 'log'), 'a') as log:
                log.write(json.dumps(entry) + '\n')
        try:
            self.serve(path, urllib.parse.parse_qs(url.query))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def serve(self, path, query):
        fault = self.fault
        if 'status' in fault:
            places = {'{path}': self.path} | {f'{{{name}}}': str(port) for name, port in zip(NAMES, PORTS)}
            headers = {name: re.sub(r'{\w+}', lambda found: places[found.group()], value)
                       for name, value in fault.get('headers', {}).items()}
            return self.send_text(fault['status'], '', headers)
        if 'body' in fault:
            return self.send_text(200, fault['body'])
        if self.host == 'cdn':
            file = BLOBS.get(path.split('/')[-1])
            return self.send_file(file, {}) if file else self.send_text(404, 'no such blob')
        found = re.fullmatch(r'/api/(models|datasets)/([^/]+/[^/]+)/(revision|tree)/(.+)', path)
        if found:
            return self.serve_api(*found.groups(), query)
        found = re.fullmatch(r'/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)', path)
        if found:
            kind = 'datasets' if found.group(1) else 'models'
            return self.serve_resolve(kind, *found.groups()[1:])
        return self.send_text(404, 'no such page')

    def find(self, kind, name, revision):
        """The repository and the commit, or None after an error was sent."""
        repository = REPOSITORIES.get((kind, name))
        if repository is None:
            self.send_text(401, '', {'X-Error-Code': 'RepoNotFound'})
            return None
        if 'main' in self.fault:
            repository.names['main'] = commit_of(kind, name, self.fault['main'])
        commit = repository.names.get(revision, revision)
        if commit not in repository.commits:
            self.send_text(404, '', {'X-Error-Code': 'RevisionNotFound'})
            return None
        return repository, commit

    def serve_api(self, kind, name, call, revision, query):
        found = self.find(kind, name, revision)
        if not found:
            return
        repository, commit = found
        if 'endless' in self.fault:
            return self.send_endless()
        files = repository.commits[commit]
        if call == 'revision':
            return self.send_json({'id': name, 'modelId': name, 'sha': commit, 'private': False,
                                   'siblings': [{'rfilename': path} for path in files]})
        entries = []
        for path in {path.rpartition('/')[0] for path in files} - {''}:
            entries.append({'type': 'directory', 'oid': '0' * 40, 'size': 0, 'path': path})
        renamed = self.fault.get('rename', {})
        for path, file in files.items():
            entry = {'type': 'file', 'oid': file.oid, 'size': file.size, 'path': renamed.get(path, path)}
            if file.large:
                entry['lfs'] = {'oid': file.blob, 'size': file.size, 'pointerSize': 130}
            entries.append(entry)
        start = int(query.get('cursor', ['0'])[0])
        headers = {}
        if start + PAGE < len(entries):
            where = f'{self.scheme}://{self.headers["Host"]}/api/{kind}/{name}/tree/{commit}'
            headers['Link'] = f'<{where}?recursive=True&cursor={start + PAGE}>; rel="next"'
        return self.send_json(entries[start:start + PAGE], headers)

    def serve_resolve(self, kind, name, revision, path):
        found = self.find(kind, name, revision)
        if not found:
            return
        repository, commit = found
        commit_shown = self.fault.get('commit', commit)
        file = repository.commits[commit].get(path)
        if file is None:
            return self.send_text(404, '', {'X-Error-Code': 'EntryNotFound', 'X-Repo-Commit': commit})
        if not file.large:
            return self.send_file(file, {'ETag': f'"{file.blob}"', 'X-Repo-Commit': commit_shown})
        return self.send_text(302, '', {
            'Location': f'{SCHEME}://127.0.0.1:{PORTS[1]}/blobs/{file.blob}?signature=secret',
            'X-Linked-Etag': f'"{file.blob}"', 'X-Linked-Size': str(file.size),
            'X-Repo-Commit': commit_shown, 'ETag': f'"{file.oid}"'})

    def send_json(self, value, headers=None):
        self.send_text(200, json.dumps(value), {'Content-Type': 'application/json', **(headers or {})})

    def send_text(self, status, text, headers=None):
        body = text.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)
        self.wfile.flush()

    def send_endless(self):
        self.send_response(200)
        self.send_header('Connection', 'close')
        self.end_headers()
        self.close_connection = True
        while True:
            self.wfile.write(b'[' * BLOCK)

    def send_file(self, file, headers):
        fault = self.fault
        first, last = 0, file.size - 1
        asked = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range') or '')
        ranged = bool(asked) and 'no_ranges' not in fault
        if ranged:
            first = int(asked.group(1))
            last = min(last, int(asked.group(2) or last))
            if first >= file.size:
                return self.send_text(416, '', {'Content-Range': f'bytes */{file.size}'})
        self.send_response(206 if ranged else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header('Accept-Ranges', 'bytes')
        if ranged:
            off = fault.get('range_off', 0)
            self.send_header('Content-Range', f'bytes {first + off}-{last + off}/{file.size}')
        self.send_header('Content-Length', str(last - first + 1 + fault.get('length', 0)))
        if 'length' in fault or 'cut' in fault:
            self.close_connection = True
            self.send_header('Connection', 'close')
        self.end_headers()
        if self.command != 'HEAD':
            self.send_range(file, first, last)
        if 'endless' in fault:
            self.close_connection = True
            while True:
                self.wfile.write(b'x' * BLOCK)
        self.wfile.flush()

    def send_range(self, file, first, last):
        fault = self.fault
        end = min(last + 1, first + fault.get('cut', 1 << 62))
        with open(file.path, 'rb') as source:
            plain = not {'flip', 'stall'} & set(fault)
            if plain:
                self.wfile.flush()
                return self.connection.sendfile(source, first, end - first) if end > first else None
            source.seek(first)
            data = bytearray(source.read(end - first))
        if 'flip' in fault and first <= fault['flip'] < end:
            data[fault['flip'] - first] ^= 1
        half = len(data) // 2
        self.wfile.write(data[:half])
        self.wfile.flush()
        if 'stall' in fault:
            time.sleep(fault['stall'])
        self.wfile.write(data[half:])


class CdnHandler(Handler):
    host = 'cdn'


class PlainHandler(Handler):
    host = 'plain'
    scheme = 'http'


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


NAMES = ('hub', 'cdn', 'plain')
SERVERS = [Server(('127.0.0.1', 0), handler) for handler in (Handler, CdnHandler, PlainHandler)]
if SCHEME == 'https':
    CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CONTEXT.load_cert_chain(os.path.join(ROOT, 'tls.pem'))
    for one in SERVERS[:2]:  # hands are shaken in the thread of the connection
        one.socket = CONTEXT.wrap_socket(one.socket, server_side=True, do_handshake_on_connect=False)
PORTS = [server.server_address[1] for server in SERVERS]
for one in SERVERS:
    threading.Thread(target=one.serve_forever, daemon=True).start()
with open(os.path.join(ROOT, 'address.new'), 'w') as address:
    address.write(' '.join(map(str, PORTS)) + '\n')
os.rename(os.path.join(ROOT, 'address.new'), os.path.join(ROOT, 'address'))
if len(sys.argv) > 2:  # a parent to watch
    while os.getppid() == int(sys.argv[2]):
        time.sleep(0.2)
else:
    sys.stdin.read()
