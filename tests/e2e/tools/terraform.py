"""Takes the steps of `terraform init` for one module of a private registry, as far as they concern credentials.

Terraform starts the helper that ~/.terraformrc names, as `PLUGIN get HOST`, and sends the token with each request.
"""

import io
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile

host, *name = sys.argv[1].split("/")
home = pathlib.Path.home()
settings = home / ".terraformrc"
helper = re.search(r'^credentials_helper "(.*)"', settings.read_text() if settings.exists() else "", re.M)
headers = {}
if helper:
    plugin = home / ".terraform.d/plugins" / f"terraform-credentials-{helper[1]}"
    reply = json.loads(subprocess.run([plugin, "get", host], check=True, stdout=subprocess.PIPE).stdout)
    if "token" in reply:
        headers["Authorization"] = f"Bearer {reply['token']}"


def get(url):
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)


services = json.load(get(f"https://{host}/.well-known/terraform.json"))
modules = urllib.parse.urljoin(f"https://{host}/", services["modules.v1"]) + "/".join(name)
version = json.load(get(f"{modules}/versions"))["modules"][0]["versions"][0]["version"]
download = get(f"{modules}/{version}/download")
source = download.headers.get("X-Terraform-Get") or json.load(download)["location"]
with urllib.request.urlopen(source, timeout=60) as archive:
    zipfile.ZipFile(io.BytesIO(archive.read())).extractall(".terraform/modules/greeting")
