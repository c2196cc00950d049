"""The token services of AWS, Google Cloud and Azure, as far as their clients need them to exchange a token.

Usage: cloud.py ROOT   prints the ports for http and https; ROOT/cert.pem is the certificate, and ROOT/tokens gets a line for
each token that was exchanged: the service, and the token. AWS is moto.
"""

import http.server
import json
import pathlib
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

from moto.server import ThreadedMotoServer

root = pathlib.Path(sys.argv[1])
moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
moto.start()
aws = "http://{}:{}".format(*moto.get_host_and_port())


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, *_):
        pass

    def answer(self, body):
        form = dict(urllib.parse.parse_qsl(body.decode()))
        for service, member in (("aws", "WebIdentityToken"), ("google", "subject_token"), ("azure", "client_assertion")):
            if member in form:
                with open(root / "tokens", "a") as tokens:
                    print(service, form[member], file=tokens)
        if self.path == "/":
            status, kind, reply = self.forward(body)
        else:
            status, kind, reply = 200, "application/json", json.dumps(self.reply()).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def reply(self):
        tenant = f"https://{self.headers['Host']}/tenant"
        if self.path.endswith("/openid-configuration"):
            return {
                "issuer": f"{tenant}/v2.0",
                "token_endpoint": f"{tenant}/oauth2/v2.0/token",
                "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
            }
        kind = "urn:ietf:params:oauth:token-type:access_token"
        return {"access_token": "exchanged", "token_type": "Bearer", "expires_in": 3600, "issued_token_type": kind}

    def forward(self, body):
        headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Content-Length")}
        request = urllib.request.Request(aws, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, reply.headers["Content-Type"], reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read()


def serve(context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()
    return server.server_address[1]


create = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
create += f" -addext subjectAltName=IP:127.0.0.1 -keyout {root}/key.pem -out {root}/cert.pem"
subprocess.run(create.split(), check=True, capture_output=True)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(root / "cert.pem", root / "key.pem")
print(serve(), serve(context), flush=True)
