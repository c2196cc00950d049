"""MCP clients, each of which reaches the server through a bridge of its own. Usage: clients.py SECONDS COUNT COMMAND [ARG]...

Half of them are those of PyPI `mcp`, in both kinds of revisions of the protocol, the others FastMCP's. When all are
connected, they call tools for SECONDS. Prints how many calls each has made.
"""

import asyncio
import json
import os
import sys
import time

import fastmcp
import mcp
from fastmcp.client.transports import StdioTransport

seconds, count, command, *arguments = sys.argv[1:]
connected = asyncio.Barrier(int(count))
# What the clients pass on by themselves is too little to find the test's home.
environment = {name: value for name, value in os.environ.items() if name.startswith(("XDG_", "HOME", "PATH", "AUTHCTL_"))}


async def call(number, client):
    """Calls tools until the time is over; returns how often."""
    await connected.wait()
    end = time.monotonic() + float(seconds)
    calls = 0
    # Two at least, however long they take.
    while time.monotonic() < end or calls < 2:
        result = await client.call_tool("add", {"a": number, "b": calls})
        assert not result.is_error, result
        structured = getattr(result, "structured_content", None)
        assert structured == {"result": number + calls}, result
        calls += 1
        if calls % 20 == 0:
            done = await client.call_tool("slow", {"steps": 3})
            assert not done.is_error, done
        await asyncio.sleep(0.05)
    return calls


async def run(number):
    if number % 2:
        transport = StdioTransport(command, arguments, env=environment, keep_alive=False)
        async with fastmcp.Client(transport) as client:
            return await call(number, client)
    server = mcp.StdioServerParameters(command=command, args=arguments, env=environment)
    mode = "legacy" if number % 4 else "auto"
    async with mcp.Client(server, mode=mode) as client:
        return await call(number, client)


async def main():
    print(json.dumps(await asyncio.gather(*[run(number) for number in range(int(count))])))


asyncio.run(main())
