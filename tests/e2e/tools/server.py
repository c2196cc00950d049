"""A server that other tools reach with a token: git repositories, a cargo registry, a Python package index, the token service
of a container registry, a Kubernetes API and a Terraform registry.

Usage: server.py ROOT VERIFY...   prints its ports for http and https; VERIFY is a command that reads a token and fails if it is
not valid. ROOT/cert.pem is the certificate. ROOT/log gets a line for each request: the status, the scheme of the credential, a
digest of the token, the method and the path.
"""

import base64
import hashlib
import http.server
import json
import mimetypes
import os
import pathlib
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

root = pathlib.Path(sys.argv[1])
verify = sys.argv[2:]
certificate, key = root / "cert.pem", root / "key.pem"


def encode(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def registry_token(query):
    """Returns a token that docker-registry accepts for the scopes in the query."""
    scopes = [scope.split(":") for scope in query.get("scope", [])]
    now = int(time.time())
    claims = {
        "iss": "test", "aud": query["service"][0], "sub": "test", "jti": "1", "iat": now, "nbf": now - 60, "exp": now + 300,
        "access": [{"type": kind, "name": name, "actions": actions.split(",")} for kind, name, actions in scopes],
    }  # fmt: skip
    header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(certificate.read_text().splitlines()[1:-1])]}
    signed = b".".join(encode(json.dumps(part).encode()) for part in (header, claims))
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=signed, capture_output=True, check=True)
    return b".".join((signed, encode(signature.stdout))).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    do_POST = do_HEAD = do_GET

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.chunks() if "Transfer-Encoding" in self.headers else self.rfile.read(int(self.headers.get("Content-Length", 0)))
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
        if self.path.endswith("/1.0.0/download"):
            # The address of a Terraform module.
            self.send_header("X-Terraform-Get", content.decode())
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def chunks(self):
        """Returns a body without a length (RFC 9112, section 7.1), as git sends a large one."""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def content(self, body):
        path, _, query = self.path.partition("?")
        if path.startswith("/git/"):
            return self.git(path.removeprefix("/git"), query, body)
        if path == "/token":
            token = registry_token(urllib.parse.parse_qs(query))
            return 200, "application/json", json.dumps({"token": token, "access_token": token}).encode()
        if path in ("/api/", "/apis/"):
            empty = {"kind": "APIVersions", "versions": ["v1"]} if path == "/api/" else {"kind": "APIGroupList", "groups": []}
            return 200, "application/json", json.dumps(empty).encode()
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
        return 200, mimetypes.guess_type(file)[0] or "application/octet-stream", file.read_bytes()

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


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 200


subprocess.run(
    ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", key, "-out",
     certificate, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
    check=True, capture_output=True,
)  # fmt: skip
plain, encrypted = (Server(("127.0.0.1", 0), Handler) for _ in range(2))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
encrypted.socket = context.wrap_socket(encrypted.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=encrypted.serve_forever, daemon=True).start()
print(plain.server_address[1], encrypted.server_address[1], flush=True)
plain.serve_forever()
