"""Moves a JupyterHub with an open server from another proxy to traefik-router, and back: MOVING.py ETCD CHP PAGE.

Each step is one of docs/moving.md. The open server is asked 50 times a second meanwhile.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from hashlib import sha1
from pathlib import Path

from hub import CONFIG, TOKEN, Hub, answers, free_ports, wait_for
from programs import PASSWORD, Kernel

CHP = sys.argv[2]
PAGE = Path(sys.argv[3])
TRAEFIK = os.environ["TRAEFIK_BIN"]
PROXY_TOKEN = "of-the-proxy"
# For so many seconds the servers may be away while the Hub starts.
HUB = 60
SECRETS = {"CONFIGPROXY_AUTH_TOKEN": PROXY_TOKEN, "TRAEFIK_API_PASSWORD": PASSWORD}
# The hashes that the other program makes of a password take a quarter of a second each.
HASH = "{SHA}" + b64encode(sha1(PASSWORD.encode()).digest()).decode()


class Program:
    def __init__(self, name, command, **env):
        with open(f"{name}.log", "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | SECRETS | env)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Probe:
    """Asks for the open server 50 times a second."""

    def __init__(self, url):
        self.url, self.answers, self.ended = url, [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        due = time.monotonic()
        while not self.ended:
            self.ask()
            due = max(due + 0.02, time.monotonic() - 0.02)
            time.sleep(max(0, due - time.monotonic()))

    def ask(self):
        at = time.monotonic()
        try:
            with urllib.request.urlopen(self.url, timeout=10) as answer:
                is_right = b"version" in answer.read()
        except OSError:
            is_right = False
        self.answers.append((at, is_right))

    def end(self):
        """How many were asked and failed, and for how long none was answered, in seconds."""
        self.ended = True
        self.thread.join()
        good = [at for at, is_right in self.answers if is_right]
        bad = [at for at, is_right in self.answers if not is_right]
        gap = max((b - a for a, b in zip(good, good[1:]) if any(a < at < b for at in bad)), default=0)
        return len(self.answers), len(bad), gap


class Set:
    """A JupyterHub whose proxy changes, in a folder of its own."""

    def __init__(self, name):
        Path(name).mkdir()
        os.chdir(name)
        Path("home").mkdir()
        self.name, self.programs = name, {}
        self.public, self.hub_port, self.api, self.traefik_api, self.spare, self.spare_api = free_ports(6)
        self.hub = Hub(self.public)
        self.loop, self.kernel, self.said = asyncio.new_event_loop(), None, 0

    def configure(self, more):
        text = CONFIG.format(
            url=self.hub.url, hub=self.hub_port, api=self.api, folder=Path.cwd(), token=TOKEN
        )
        text += "c.JupyterHub.cleanup_servers = False\n"
        text += 'c.JupyterHub.load_roles[0]["scopes"] += ["access:servers"]\n'
        Path("jupyterhub_config.py").write_text(text + more)

    def start(self, name, command):
        self.programs[name] = Program(name, command)

    def stop(self, name):
        self.programs.pop(name).stop()

    def start_hub(self):
        self.start("hub", [sys.executable, "-m", "jupyterhub"])
        wait_for("JupyterHub", lambda: answers(self.hub))

    def open_server(self, user):
        self.hub.api("POST", f"/users/{user}")
        self.hub.api("POST", f"/users/{user}/server")

        def ready():
            status, said = self.hub.api("GET", f"/users/{user}")
            assert status == 200, f"{user}: {status} {said}"
            return said["servers"].get("", {}).get("ready")

        wait_for(user, ready, 90)

    def check(self, what):
        """The server is open and its route is known; a new one can be opened, and closed."""
        self.open_server("eve")
        wait_for("eve's server", lambda: self.serves("eve"))
        self.close_server("eve")
        assert self.serves("ada"), what

    def close_server(self, user):
        """Its path leads to the Hub again, and not to where nobody listens."""
        self.hub.api("DELETE", f"/users/{user}/server")
        wait_for(f"{user}'s route is gone", lambda: self.leads_to_hub(user))

    def leads_to_hub(self, user):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.public}/user/{user}/api", timeout=20) as answer:
                headers = answer.headers
        except urllib.error.HTTPError as error:
            headers = error.headers
        except OSError:
            return False
        return "X-JupyterHub-Version" in headers

    def serves(self, user):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.public}/user/{user}/api", timeout=20) as answer:
                return b"version" in answer.read()
        except OSError:
            return False

    def open_kernel(self, user):
        """A kernel of the user's server, with a WebSocket that stays open."""
        self.kernel = Kernel(self.hub.url, user)
        self.loop.run_until_complete(self.kernel.connect())

    def count(self):
        """Has the kernel count by one more, over the WebSocket that is open."""
        self.said += 1
        code = "n = globals().get('n', 0) + 1; n"
        counted = self.loop.run_until_complete(self.kernel.compute(code))
        assert counted == str(self.said), counted

    def move(self, what, steps, allowed):
        """Takes the steps while the server is asked; it may be away for so many seconds. Where that is none, a
        WebSocket stays open."""
        if not self.kernel:
            self.open_kernel("ada")
        self.count()
        probe = Probe(f"http://127.0.0.1:{self.public}/user/ada/api")
        time.sleep(1)
        try:
            steps()
            self.check(what)
        finally:
            asked, failed, gap = probe.end()
        print(f"    {what}: {failed} of {asked} failed, {gap:.1f} s without an answer", flush=True)
        assert gap <= allowed and (allowed or not failed), what
        if allowed:
            self.loop.run_until_complete(self.kernel.connect())
        self.count()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            for log in sorted(Path.cwd().glob("*.log")):
                print(f"---- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
        for user in ("ada", "eve"):
            try:
                self.hub.api("DELETE", f"/users/{user}/server")
            except OSError:
                pass
        for name in list(self.programs):
            self.stop(name)
        os.chdir("..")


def by_page(part, port):
    """Reads the routes of a proxy into a file, or gives it those of the file, as the page says it."""
    blocks = PAGE.read_text().split("```")[1::2]
    block = next(block for block in blocks if "to_entries" in block)
    lines = block.removeprefix("sh").strip().splitlines()
    reads = next(at for at, line in enumerate(lines) if line.endswith("> routes.json"))
    lines = lines[: reads + 1] if part == "read" else lines[:reads] + lines[reads + 1 :]
    script = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", "\n".join(lines))
    subprocess.run(["bash", "-euc", script], env=os.environ | SECRETS, check=True)


def listens(*ports):
    import socket

    def one(port):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_for(f"ports {ports}", lambda: all(map(one, ports)))


APART = """
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.auth_token = "of-the-proxy"
"""


def chp_apart():
    """The proxy is a service of its own, and the Hub runs on."""
    with Set("chp-apart") as one:
        options = ["--ip", "127.0.0.1", "--port", str(one.public), "--api-ip", "127.0.0.1"]
        options += ["--api-port", str(one.api), "--error-target", f"http://127.0.0.1:{one.hub_port}/hub/error"]
        spare = [*options, "--port", str(one.spare), "--api-port", str(one.spare_api)]
        store = ["--backend", f"toml:{Path.cwd()}/routes.toml"]
        one.start("old", [CHP, *options])
        listens(one.api, one.public)
        one.configure(APART)
        one.start_hub()
        one.open_server("ada")

        def there():
            one.start("copy", ["traefik-router", "chp", *spare, *store])
            listens(one.spare_api, one.spare)
            by_page("read", one.api)
            by_page("write", one.spare_api)
            one.stop("copy")
            one.stop("old")
            one.start("new", ["traefik-router", "chp", *options, *store, "--keep-routes"])
            listens(one.api, one.public)

        def back():
            by_page("read", one.api)
            one.stop("new")
            one.start("old", [CHP, *options])
            listens(one.api)
            by_page("write", one.api)

        one.move("from configurable-http-proxy, a service", there, 2)
        one.move("back to it", back, 6)
        one.close_server("ada")


def chp_by_hub():
    """The Hub starts the proxy."""
    with Set("chp-by-hub") as one:
        command = "c.ConfigurableHTTPProxy.command = {!r}\n"

        def restart(program):
            def steps():
                one.configure(command.format(program))
                one.stop("hub")
                one.start_hub()
                wait_for("ada's route", lambda: one.serves("ada"))

            return steps

        one.configure(command.format([CHP]))
        one.start_hub()
        one.open_server("ada")
        one.move("from configurable-http-proxy, by the Hub", restart(["traefik-router", "chp"]), HUB)
        one.move("back to it", restart([CHP]), HUB)
        one.close_server("ada")


PEER = """
c.JupyterHub.proxy_class = "{kind}"
c.TraefikProxy.should_start = {starts}
c.TraefikProxy.traefik_api_url = "http://127.0.0.1:{api}"
c.TraefikProxy.traefik_api_username = "jupyterhub"
c.TraefikProxy.traefik_api_password = "{password}"
c.TraefikProxy.traefik_api_hashed_password = "{hash}"
"""


def peer(one, kind, starts, more):
    one.configure(
        PEER.format(kind=kind, starts=starts, api=one.traefik_api, password=PASSWORD, hash=HASH) + more
    )


def settings_of(kind, etcd, name):
    """What jupyterhub-traefik-proxy keeps its routes in, below or beside this name."""
    if kind == "traefik_file":
        return f'c.TraefikFileProviderProxy.dynamic_config_file = "{Path.cwd()}/rules/{name}.toml"\n'
    return f'c.TraefikEtcdProxy.etcd_url = "{etcd}"\nc.TraefikEtcdProxy.kv_jupyterhub_prefix = "{name}"\n'


def external(kind, etcd, is_single=False):
    """A Traefik runs apart, and goes on. It watches a folder, a single file or etcd."""
    with Set(f"single-{kind}" if is_single else kind) as one:
        folder = Path.cwd() / "rules"
        folder.mkdir()
        first, second = ("rules", "back") if kind == "traefik_file" else ("jupyterhub", "jupyterhub-back")
        rules = folder / f"{first}.toml"
        store = f"toml:{rules}"
        if is_single:
            rules.touch()
            provider = f'[providers.file]\nfilename = "{rules}"\n'
        elif kind == "traefik_file":
            provider = f'[providers.file]\ndirectory = "{folder}"\n'
        else:
            address, store = re.sub("^http://", "", etcd), f"etcd:{etcd}"
            provider = f'[providers.etcd]\nendpoints = ["{address}"]\nrootKey = "traefik"\n'
        Path("traefik.toml").write_text(
            f'[api]\n[entryPoints.http]\naddress = "127.0.0.1:{one.public}"\n'
            f'[entryPoints.auth_api]\naddress = "127.0.0.1:{one.traefik_api}"\n'
            f'[providers]\nprovidersThrottleDuration = "0s"\n{provider}'
        )
        one.start("traefik", [TRAEFIK, "--configFile=traefik.toml"])
        listens(one.public)
        peer(one, kind, False, settings_of(kind, etcd, first))
        one.start_hub()
        one.open_server("ada")
        api_url = f"http://127.0.0.1:{one.traefik_api}"

        def there():
            one.stop("hub")
            command = ["traefik-router", "chp", "--backend", store, "--api-url", api_url]
            one.start("chp", [*command, "--api-ip", "127.0.0.1", "--api-port", str(one.api)])
            listens(one.api)
            one.configure(APART)
            one.start_hub()

        def clear():
            one.stop("chp")
            command = ["traefik-router", "routes", "clear", "--no-wait", "--backend", store]
            # In etcd a program counts for some seconds more.
            wait_for("the table is removed", lambda: subprocess.run(command, capture_output=True).returncode == 0)

        def back():
            one.stop("hub")
            if is_single:
                clear()
            peer(one, kind, False, settings_of(kind, etcd, first if is_single else second))
            one.start_hub()
            if not is_single:
                clear()
            wait_for("ada's route", lambda: one.serves("ada"))

        one.move(f"from jupyterhub-traefik-proxy, {one.name}", there, 0)
        one.move("back to it", back, HUB if is_single else 0)
        one.close_server("ada")


def peer_by_hub(kind, etcd):
    """The Hub starts the Traefik of the other program."""
    with Set(f"by-hub-{kind}") as one:
        Path("bin").mkdir()
        Path("bin/traefik").symlink_to(TRAEFIK)
        os.environ["PATH"] = f"{Path.cwd()}/bin:{os.environ['PATH']}"
        Path("rules").mkdir()
        settings = settings_of(kind, etcd, "by-hub")
        if kind == "traefik_etcd":
            settings += 'c.TraefikEtcdProxy.kv_traefik_prefix = "traefik-by-hub"\n'

        def restart():
            one.stop("hub")
            one.start_hub()
            wait_for("ada's route", lambda: one.serves("ada"))

        def there():
            one.configure("c.ConfigurableHTTPProxy.command = ['traefik-router', 'chp']\n")
            restart()

        def back():
            peer(one, kind, True, settings)
            restart()

        peer(one, kind, True, settings)
        one.start_hub()
        one.open_server("ada")
        one.move(f"from jupyterhub-traefik-proxy, {one.name}", there, HUB)
        one.move("back to it", back, HUB)
        one.close_server("ada")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
ETCD = sys.argv[1]
WAYS = {
    "chp_apart": chp_apart,
    "chp_by_hub": chp_by_hub,
    "peer_by_hub_file": lambda: peer_by_hub("traefik_file", ETCD),
    "peer_by_hub_etcd": lambda: peer_by_hub("traefik_etcd", ETCD),
    "folder": lambda: external("traefik_file", ETCD),
    "single_file": lambda: external("traefik_file", ETCD, is_single=True),
    "etcd": lambda: external("traefik_etcd", ETCD),
}
for name in sys.argv[4:] or WAYS:
    WAYS[name]()
