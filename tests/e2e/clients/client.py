"""Sends the request argv[2] argv[3] to the agent at the socket argv[1], with the standard library only.

Prints the status, the content type and the body as one line of JSON; for events, the first one named argv[4].
"""

import http.client
import json
import socket
import sys


class AgentConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("authctl", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


path, method, target = sys.argv[1:4]
connection = AgentConnection(path)
connection.request(method, target)
response = connection.getresponse()
result = {"status": response.status, "type": response.getheader("Content-Type")}
if result["type"] == "text/event-stream":
    name = None
    for line in response:
        line = line.decode().rstrip("\n")
        if line.startswith(": subscribed"):
            print("listening", flush=True)
        elif line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and name == sys.argv[4]:
            result["event"], result["body"] = name, json.loads(line.removeprefix("data: "))
            break
else:
    result["body"] = json.loads(response.read())
print(json.dumps(result))
