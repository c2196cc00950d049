"""Searches everything that a command under `authctl exec --proxy --sandbox` can reach for the secrets whose SHA-256 digests are
given, while it uses the API. Prints what it found as JSON."""
import ctypes, hashlib, json, os, re, socket, sys, time, urllib.request

digests, seconds, forbidden = set(sys.argv[2].split(",")), float(sys.argv[3]), sys.argv[4:]
url, key = os.environ["AUTHCTL_PROXY_URL"], os.environ["AUTHCTL_PROXY_KEY"]
found, requests, failures = [], 0, []
# Tokens are made of these characters; each candidate is compared by its digest, so that this program has no secret itself.
WORD = re.compile(rb"[A-Za-z0-9._~+/=-]{16,}")
# The tokens that refreshes bring while it runs are JWTs.
JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.")


def search(place, data):
    for word in WORD.findall(data):
        if JWT.search(word) or hashlib.sha256(word).hexdigest() in digests:
            found.append(place)


def search_environment():
    for name, value in os.environb.items():
        search("environment", name + b"=" + value)
        search("environment", value)


def search_memory():
    for process in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline"):
            try:
                search(f"/proc/{name}", open(f"/proc/{process}/{name}", "rb").read().replace(b"\0", b"\n"))
            except OSError:
                pass
        try:
            maps, memory = open(f"/proc/{process}/maps").read(), open(f"/proc/{process}/mem", "rb", 0)
        except OSError:
            continue
        for line in maps.splitlines():
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            if " r" not in line[:40] or "[v" in line:
                continue
            try:
                memory.seek(begin)
                search(f"memory of {process}", memory.read(min(end - begin, 64 << 20)))
            except (OSError, ValueError, OverflowError):
                pass


def search_files():
    for root in (os.environ["HOME"], "/run", "/tmp", "/dev/shm"):
        for directory, _, names in os.walk(root):
            for name in names:
                path = os.path.join(directory, name)
                try:
                    if os.path.isfile(path) and os.path.getsize(path) < 4 << 20:
                        search(path, open(path, "rb").read())
                except OSError:
                    pass


def connects(address):
    try:
        family = socket.AF_INET if ":" in address else socket.AF_UNIX
        target = (address.rsplit(":", 1)[0], int(address.rsplit(":", 1)[1])) if family == socket.AF_INET else address
        with socket.socket(family) as client:
            client.settimeout(2)
            client.connect(target)
        return True
    except OSError:
        return False


end = time.monotonic() + seconds
while True:
    try:
        request = urllib.request.Request(url + "/item", headers={"X-Authctl-Key": key})
        urllib.request.urlopen(request, timeout=20).read()
        requests += 1
    except OSError as error:
        failures.append(str(error))
    if time.monotonic() > end:
        break
    time.sleep(0.2)
search_environment()
search_memory()
search_files()
writes = []
# Root could otherwise remove what hides a directory, and change the kernel's settings.
hidden = os.path.join(os.environ["XDG_DATA_HOME"], "authctl")
libc = ctypes.CDLL(None, use_errno=True)
undone = [place for place in (hidden, os.environ["HOME"], "/proc/sys") if libc.umount2(place.encode(), 2) == 0]
search_files()
for path in (os.path.join(os.environ["HOME"], "written"), os.path.join(sys.argv[1], "written"), "/proc/sys/kernel/core_pattern"):
    try:
        open(path, "a").close()
        writes.append(path)
    except OSError:
        pass
print(json.dumps({"found": found, "requests": requests, "failures": failures, "writes": writes, "undone": undone,
                  "connected": [address for address in forbidden if connects(address)]}))
