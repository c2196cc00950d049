"""Lists the groups of a Kubernetes API with the configuration in ~/.kube/config.

Usage: kubernetes.py COUNT   makes as many calls at once, each with a client and a credential of its own.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

# Not this file.
sys.path.pop(0)
from kubernetes import client, config  # noqa: E402

count = int(sys.argv[1])
ready = threading.Barrier(count)


def call(_):
    ready.wait(60)
    return client.ApisApi(config.new_client_from_config()).get_api_versions(_request_timeout=60).kind


with ThreadPoolExecutor(count) as pool:
    print(" ".join(pool.map(call, range(count))))
