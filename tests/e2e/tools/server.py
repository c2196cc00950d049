"""A server that other tools reach with a token: git repositories, a cargo registry and a Python package index.

Usage: server.py ROOT VERIFY...   prints its address; VERIFY is a command that reads a token and fails if it is not valid.
ROOT/log gets a line for each request: the status, the scheme of the credential, the method and the path.
"""

import base64
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys

root = pathlib.Path(sys.argv[1])
verify = sys.argv[2:]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    do_POST = do_GET

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        scheme, _, credential = self.headers.get("Authorization", "none ").partition(" ")
        token = credential
        if scheme == "Basic":
            token = base64.b64decode(credential).decode().partition(":")[2]
        valid = bool(token) and subprocess.run(verify, input=token.encode(), capture_output=True).returncode == 0
        status, kind, content = self.content(body) if valid else (401, "text/plain", b"a token is required")
        digest = hashlib.sha256(token.encode()).hexdigest()[:8] if token else "-"
        with open(root / "log", "a") as log:
            print(status, scheme, digest, self.command, self.path, file=log)
        self.send_response(status)
        if not valid:
            self.send_header("WWW-Authenticate", 'Bearer realm="test"')
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def content(self, body):
        path, _, query = self.path.partition("?")
        if path.startswith("/git/"):
            return self.git(path.removeprefix("/git"), query, body)
        if path == "/index/config.json":
            address = f"http://{self.headers['Host']}"
            config = {"dl": f"{address}/crates/{{crate}}.crate", "api": address, "auth-required": True}
            return 200, "application/json", json.dumps(config).encode()
        file = (root / path.lstrip("/")).resolve()
        if file.is_dir():
            links = "".join(f'<a href="{entry.name}">{entry.name}</a>' for entry in sorted(file.iterdir()))
            return 200, "text/html", links.encode()
        if not file.is_relative_to(root) or not file.is_file():
            return 404, "text/plain", b"not found"
        return 200, "application/octet-stream", file.read_bytes()

    def git(self, path, query, body):
        environment = os.environ | {
            "GIT_PROJECT_ROOT": str(root / "git"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "test",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        ran = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment)
        head, _, content = ran.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        return int(fields.get("Status", "200").split()[0]), fields.get("Content-Type", "text/plain"), content


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
