"""An MCP server that requires tokens of an issuer, made of FastMCP. Usage: server.py ISSUER

Prints its URL. `GET /seen` returns how many responses there were by status, and the tokens of the requests.
"""

import asyncio
import collections
import json
import socket
import sys

import uvicorn
from fastmcp import Context, FastMCP
from fastmcp.server.auth.providers.jwt import JWTVerifier

issuer = sys.argv[1]
server = FastMCP("tests", auth=JWTVerifier(jwks_uri=f"{issuer}/jwks", issuer=issuer, algorithm="ES256"))


@server.tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool
async def slow(steps: int, ctx: Context) -> str:
    """Reports its progress."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps)
        await asyncio.sleep(0.05)
    return "done"


statuses, tokens = collections.Counter(), set()
application = server.http_app(path="/mcp")


async def counting(scope, receive, send):
    """Counts the responses of the server."""
    if scope["type"] != "http":
        return await application(scope, receive, send)
    if scope["path"] == "/seen":
        body = json.dumps({"statuses": statuses, "tokens": sorted(tokens)}).encode()
        # With a length, so that the body comes in one piece: the client of the tests decodes no chunks.
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        return await send({"type": "http.response.body", "body": body})
    tokens.update(value.decode() for name, value in scope["headers"] if name == b"authorization")

    async def counted(message):
        if message["type"] == "http.response.start":
            statuses[str(message["status"])] += 1
        await send(message)

    await application(scope, receive, counted)


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
uvicorn.Server(uvicorn.Config(counting, log_level="error", timeout_graceful_shutdown=1)).run(sockets=[listener])
