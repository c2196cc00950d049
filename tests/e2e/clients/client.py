"""Asks the agent at the socket argv[1] for argv[2] with argv[3], by nothing but the standard library.

Prints the status, the content type and the body as one line of JSON; of events the first one that argv[4] names.
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
answer = connection.getresponse()
told = {"status": answer.status, "type": answer.getheader("Content-Type")}
if told["type"] == "text/event-stream":
    name = None
    for line in answer:
        line = line.decode().rstrip("\n")
        if line.startswith(": subscribed"):
            print("listening", flush=True)
        elif line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and name == sys.argv[4]:
            told["event"], told["body"] = name, json.loads(line.removeprefix("data: "))
            break
else:
    told["body"] = json.loads(answer.read())
print(json.dumps(told))
