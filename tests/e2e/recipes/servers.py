"""The servers of the recipes: an API, the identity tokens of a platform, a WebDAV server, PostgreSQL, SMTP and IMAP, each at the host that the page names.

Usage: servers.py ADDRESSES CERTIFICATE KEY LOG RELAY VERIFY...

ADDRESSES is a hosts file. RELAY is the Unix socket that leads to the issuer. VERIFY is a command that reads a token and fails
if it is not valid. LOG gets a line for each credential: the server, `accepted` or `refused`, and the token's digest.
"""

import base64
import hashlib
import http.server
import json
import re
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import urllib.parse

addresses, certificate, key, log, relay = sys.argv[1:6]
verify = sys.argv[6:]
USER = "alice@mail.example"
PLATFORM_TOKEN = "the-bearer-token-of-the-job"

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)


def accepts(server, token):
    """Returns whether the token is valid, and logs it."""
    valid = subprocess.run(verify, input=token.encode(), capture_output=True, timeout=30).returncode == 0
    with open(log, "a") as lines:
        print(server, "accepted" if valid else "refused", hashlib.sha256(token.encode()).hexdigest(), file=lines)
    return valid


def xoauth2_token(response):
    """Returns the token of a response of XOAUTH2; of one that is not to the letter, something that is not a token."""
    exact = re.fullmatch(rf"user={re.escape(USER)}\x01auth=Bearer ([^\x01]+)\x01\x01", base64.b64decode(response).decode())
    return exact[1] if exact else "malformed"


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = "api"
    content = json.dumps({"answer": "from the API"}).encode()

    def setup(self):
        self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, *_):
        pass

    def reply(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if accepts(self.name, token):
            self.reply(200, self.content)
        else:
            self.reply(401, b"a valid token is required")

    do_POST = do_GET


class Files(Api):
    name = "files"
    content = b"""<?xml version="1.0"?><multistatus xmlns="DAV:"><response><href>/dav/report.txt</href><propstat>
        <status>HTTP/1.1 200 OK</status><prop><getcontentlength>3</getcontentlength><resourcetype/></prop>
        </propstat></response></multistatus>"""

    def reply(self, status, content):
        super().reply(207 if status == 200 else status, content)

    do_PROPFIND = Api.do_GET


class Platform(Api):
    """The runner's address for identity tokens."""

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if self.headers.get("Authorization") != f"Bearer {PLATFORM_TOKEN}" or query["audience"] != ["https://issuer.example"]:
            return self.reply(403, b"{}")
        with open("identity.jwt") as token:
            self.reply(200, json.dumps({"value": token.read()}).encode())


class Issuer(socketserver.BaseRequestHandler):
    def handle(self):
        near = context.wrap_socket(self.request, server_side=True)
        far = socket.socket(socket.AF_UNIX)
        far.connect(relay)

        def copy(source, target):
            try:
                while piece := source.recv(65536):
                    target.sendall(piece)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        back = threading.Thread(target=copy, args=(far, near), daemon=True)
        back.start()
        copy(near, far)
        back.join()


class Lines(socketserver.StreamRequestHandler):
    def line(self):
        line = self.rfile.readline()
        if not line:
            raise EOFError
        return line.decode().rstrip("\r\n")

    def send(self, *lines):
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

    def start_tls(self):
        self.finish()
        self.request = context.wrap_socket(self.request, server_side=True)
        self.setup()

    def handle(self):
        try:
            self.talk()
        except (EOFError, ConnectionError):
            pass


class Smtp(Lines):
    def talk(self):
        encrypted = authenticated = False
        self.send("220 smtp.example ESMTP")
        while True:
            line = self.line()
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                self.send("250-smtp.example", "250 AUTH XOAUTH2" if encrypted else "250 STARTTLS")
            elif verb == "STARTTLS":
                self.send("220 go ahead")
                self.start_tls()
                encrypted = True
            elif verb == "AUTH" and encrypted:
                assert line.split(" ")[1] == "XOAUTH2", line
                if not (response := line.removeprefix("AUTH XOAUTH2").strip()):
                    self.send("334 ")
                    response = self.line()
                authenticated = accepts("smtp", xoauth2_token(response))
                self.send("235 welcome" if authenticated else "535 5.7.8 refused")
            elif verb == "QUIT":
                return self.send("221 bye")
            elif not authenticated:
                self.send("530 5.7.0 authentication required")
            elif verb == "DATA":
                self.send("354 go ahead")
                while self.line() != ".":
                    pass
                self.send("250 accepted")
            else:
                self.send("250 ok")


class Imap(Lines):
    message = "Subject: Test\r\n\r\nIt works.\r\n"

    def talk(self):
        encrypted = authenticated = False
        self.send("* OK imap.example")
        while True:
            tag, _, command = self.line().partition(" ")
            verb = command.upper().removeprefix("UID ").split(" ")[0]
            if verb == "CAPABILITY":
                self.send("* CAPABILITY IMAP4rev1 " + ("SASL-IR AUTH=XOAUTH2" if encrypted else "STARTTLS LOGINDISABLED"))
            elif verb == "STARTTLS":
                self.send(f"{tag} OK")
                self.start_tls()
                encrypted = True
                continue
            elif verb == "AUTHENTICATE" and encrypted:
                authenticated = accepts("imap", xoauth2_token(command.split(" ")[2]))
                self.send(f"{tag} OK" if authenticated else f"{tag} NO refused")
                continue
            elif verb == "LOGOUT":
                return self.send("* BYE", f"{tag} OK")
            elif not authenticated:
                self.send(f"{tag} NO log in first")
                continue
            elif verb == "LIST":
                self.send('* LIST () "/" INBOX')
            elif verb == "SELECT":
                self.send("* FLAGS (\\Seen)", "* 1 EXISTS", "* 0 RECENT", "* OK [UIDVALIDITY 1] ok", "* OK [UIDNEXT 2] ok")
            elif verb == "FETCH" and "BODY" in command.upper():
                self.send(f"* 1 FETCH (UID 1 FLAGS () BODY[] {{{len(self.message)}}}", f"{self.message})")
            elif verb == "FETCH":
                self.send(f"* 1 FETCH (UID 1 FLAGS () RFC822.SIZE {len(self.message)})")
            self.send(f"{tag} OK")


class Postgres(socketserver.BaseRequestHandler):
    def read(self, length):
        data = b""
        while len(data) < length:
            piece = self.request.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def startup(self):
        (length,) = struct.unpack("!I", self.read(4))
        return self.read(length - 4)

    def message(self):
        kind, length = struct.unpack("!cI", self.read(5))
        return kind, self.read(length - 4)

    def send(self, kind, content):
        self.request.sendall(struct.pack("!cI", kind, len(content) + 4) + content)

    def handle(self):
        try:
            self.talk()
        except (EOFError, ConnectionError):
            pass

    def talk(self):
        assert self.startup() == struct.pack("!I", 80877103), "a request for TLS"
        self.request.sendall(b"S")
        self.request = context.wrap_socket(self.request, server_side=True)
        assert b"user\0alice\0" in self.startup()
        # The password in clear text, which is what servers that take tokens request.
        self.send(b"R", struct.pack("!I", 3))
        kind, password = self.message()
        if kind != b"p" or not accepts("db", password.removesuffix(b"\0").decode()):
            return self.send(b"E", b"SFATAL\0C28P01\0Mthe token is refused\0\0")
        self.send(b"R", struct.pack("!I", 0))
        self.send(b"Z", b"I")
        while (message := self.message())[0] == b"Q":
            self.send(b"T", struct.pack("!H", 1) + b"answer\0" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0))
            self.send(b"D", struct.pack("!HI", 1, 1) + b"1")
            self.send(b"C", b"SELECT 1\0")
            self.send(b"Z", b"I")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A client that gives up during the handshake.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


handlers = {
    ("api.example", 443): Api,
    ("files.example", 443): Files,
    ("issuer.example", 443): Issuer,
    ("pipelines.example", 443): Platform,
    ("smtp.example", 587): Smtp,
    ("imap.example", 143): Imap,
    ("db.example", 5432): Postgres,
}
with open(addresses) as lines:
    address = {name: words[0] for words in map(str.split, lines) for name in words[1:]}
for (host, port), handler in handlers.items():
    threading.Thread(target=Server((address[host], port), handler).serve_forever).start()
print("ready", flush=True)
