"""A JupyterHub of its own, for as long as a `with` lasts."""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

TOKEN = "of-the-driver"
# The certificate of a Hub with HTTPS is a made-up one.
UNVERIFIED = ssl._create_unverified_context()

CONFIG = """
c.JupyterHub.bind_url = "{url}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.allow_named_servers = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/home"
c.JupyterHub.services = [dict(name="driver", api_token="{token}")]
c.JupyterHub.load_roles = [
    dict(name="driver", services=["driver"], scopes=["admin:users", "admin:servers"])
]
"""


class Hub:
    def __init__(self, public, scheme="http"):
        self.url = f"{scheme}://127.0.0.1:{public}"
        self.port = public

    def api(self, method, path):
        """Asks the Hub's REST API, through the proxy; the status and what it says."""
        request = urllib.request.Request(
            f"{self.url}/hub/api{path}",
            method=method,
            headers={"Authorization": f"token {TOKEN}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60, context=UNVERIFIED) as answer:
                return answer.status, json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextmanager
def jupyterhub(more, public=None, scheme="http"):
    """Runs it in the current folder, with more lines of configuration; `public` is its port for users."""
    free, hub, api = free_ports(3)
    started = Hub(public or free, scheme)
    folder = Path.cwd()
    config = CONFIG.format(url=started.url, hub=hub, api=api, folder=folder, token=TOKEN)
    Path("jupyterhub_config.py").write_text(config + more)
    Path("home").mkdir(exist_ok=True)
    with open("hub.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub"], stdout=log, stderr=log
        )
    try:
        wait_for("JupyterHub", lambda: process.poll() is None and answers(started))
        yield started
    except BaseException:
        print(Path("hub.log").read_text()[-6000:], file=sys.stderr)
        raise
    finally:
        # It ends its proxy and the servers.
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def answers(hub):
    try:
        return hub.api("GET", "/users")[0] == 200
    except OSError:
        return False


def wait_for(what, ready, seconds=60):
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not ready after {seconds} s")
        time.sleep(0.1)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
