"""The client under test of the MCP conformance suite: PyPI's client, which reaches the server through `authctl mcp`.

The suite starts it with the URL of the server, and names the scenario in the environment. The user of authctl, who agrees to
everything, is here too: the browser follows redirects, and where authctl names a command, it is run.
"""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import mcp

AUTHCTL = os.environ["AUTHCTL_UNDER_TEST"]
URL = sys.argv[-1]
SCENARIO = os.environ["MCP_CONFORMANCE_SCENARIO"]
VERSION = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
CONTEXT = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
LIMIT = 25

home = Path(tempfile.mkdtemp(prefix="authctl-conformance-"))
environment = {"PATH": os.environ["PATH"], "AUTHCTL_STORE": "file"}
for name, below in {"HOME": "", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_RUNTIME_DIR": "run"}.items():
    (home / below).mkdir(mode=0o700, exist_ok=True)
    environment[name] = str(home / below)
browser = home / "browser"
browser.write_text('#!/bin/sh\nexec curl -sL -o /dev/null --max-time 20 "$1"\n')
browser.chmod(0o700)
environment["BROWSER"] = str(browser)


def authctl(*arguments, text=""):
    """Runs authctl as the user does."""
    done = subprocess.run([AUTHCTL, *arguments], input=text, capture_output=True, text=True, env=environment, timeout=LIMIT)
    print(f"authctl {shlex.join(arguments)} -> {done.returncode}\n{done.stdout}{done.stderr}", file=sys.stderr)
    return done


def prepare():
    """Sets up what the user knows besides the URL."""
    name = SCENARIO.removeprefix("auth/")
    client = ["--client-id", CONTEXT.get("client_id", "")]
    if name == "basic-cimd":
        (home / "config/authctl").mkdir(mode=0o700)
        configuration = home / "config/authctl/config.toml"
        configuration.write_text('client_metadata_url = "https://conformance-test.local/client-metadata.json"\n')
        configuration.chmod(0o600)
    elif name == "pre-registration":
        authctl("login", "--for", URL, "--yes", "--browser", *client, "--client-secret-stdin", text=CONTEXT["client_secret"])
    elif name == "client-credentials-basic":
        authctl("login", "--for", URL, "--yes", "--client-credentials", *client, "--client-secret-stdin", text=CONTEXT["client_secret"])
    elif name == "client-credentials-jwt":
        key = home / "key.pem"
        key.write_text(CONTEXT["private_key_pem"])
        key.chmod(0o600)
        authctl("login", "--for", URL, "--yes", "--client-credentials", *client, "--client-key", str(key))
    elif name in ("wif-jwt-bearer", "enterprise-managed-authorization"):
        identity = home / "identity"
        identity.write_text(CONTEXT.get("valid_jwt") or CONTEXT["idp_id_token"])
        identity.chmod(0o600)
        login = ["login", "--for", URL, "--yes", *client, "--workload", f"file:{identity}"]
        if "idp_issuer" in CONTEXT:
            login += ["--identity-provider", CONTEXT["idp_issuer"], "--identity-client-id", CONTEXT["idp_client_id"]]
            login += ["--client-auth", "client_secret_basic", "--client-secret-stdin"]
        authctl(*login, text=CONTEXT.get("client_secret", ""))


async def call(client):
    """Calls the tool. Where the server has another issuer now, the user agrees to it, as authctl says step by step."""
    try:
        return await client.call_tool("test-tool", {})
    except mcp.MCPError as error:
        if SCENARIO != "auth/authorization-server-migration":
            raise
        said = error.error.message
    for _ in range(3):
        named = re.findall(r"authctl login [^`\n]*", said)
        if not named:
            break
        words = shlex.split(named[-1])[1:]
        said = authctl(*words, *{"--browser", "--yes"}.difference(words)).stderr
    return await client.call_tool("test-tool", {})


async def use():
    """Uses the server as the suite expects it."""
    server = mcp.StdioServerParameters(command=AUTHCTL, args=["mcp", URL, "--browser", "--yes", "-v"], env=environment)
    mode = "legacy" if VERSION < "2026" else VERSION
    async with mcp.Client(server, mode=mode, read_timeout_seconds=LIMIT) as client:
        await client.list_tools()
        print(await call(client), file=sys.stderr)


async def main():
    prepare()
    try:
        await asyncio.wait_for(use(), LIMIT)
    except* mcp.MCPError as errors:
        print(repr(errors), file=sys.stderr)
        sys.exit(1)


asyncio.run(main())
