"""Creates the site in a directory, with a user and clients, and serves it on loopback until stdin ends.

Prints `listening at ADDRESS` when it is ready.
"""

import os
import socketserver
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def server_bind(self):
        # Without the reverse lookup of the base class.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]
        self.setup_environ()


class Quiet(WSGIRequestHandler):
    """Logs no requests: the site logs them itself."""

    def log_message(self, *about):
        pass


def clients(options):
    """Registers the clients, one for each grant."""
    from oauth2_provider.models import Application

    public, confidential = Application.CLIENT_PUBLIC, Application.CLIENT_CONFIDENTIAL
    code, device = Application.GRANT_AUTHORIZATION_CODE, Application.GRANT_DEVICE_CODE
    loopback = "http://127.0.0.1/callback"
    for name, kind, grant, redirects in [
        ("program", public, code, loopback),
        ("elsewhere", public, code, options.get("redirect", loopback)),
        ("device", public, device, ""),
        ("typist", public, Application.GRANT_PASSWORD, ""),
        ("service", confidential, Application.GRANT_CLIENT_CREDENTIALS, ""),
    ]:
        client = Application(
            name=name,
            client_id=name,
            client_type=kind,
            authorization_grant_type=grant,
            redirect_uris=redirects,
            algorithm=Application.RS256_ALGORITHM,
        )
        if kind == confidential:
            client.client_secret = options["secret"]
        client.full_clean()
        client.save()


def main():
    server = Server(("127.0.0.1", 0), Quiet)
    address = f"http://127.0.0.1:{server.server_port}"
    os.environ["DJANGO_ADDRESS"] = address
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    call_command("migrate", run_syncdb=True, verbosity=0)
    # Staff can sign in at Django's own pages.
    get_user_model().objects.create_superuser("developer", password=settings.OPTIONS["password"])
    clients(settings.OPTIONS)
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening at {address}", flush=True)
    sys.stdin.read()


main()
