"""A JupyterHub and an etcd of their own for each test, and users' servers."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[3] / "tests/jupyterhub/scripts"
sys.path.insert(0, str(SCRIPTS))

from hub import UNVERIFIED, Hub, free_ports, jupyterhub, wait_for  # noqa: E402

SPAWNER = f"c.Spawner.cmd = [{sys.executable!r}, {str(SCRIPTS / 'server.py')!r}]\n"


Running = Callable[..., AbstractContextManager[Hub]]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """Starts a JupyterHub with these lines in its configuration, in ``tmp_path``, for users at a port."""
    monkeypatch.chdir(tmp_path)
    # What the wheel brings has to do without them.
    for name in ["TRAEFIK_BIN", "CONFIGPROXY_AUTH_TOKEN"]:
        monkeypatch.delenv(name, raising=False)

    @contextmanager
    def run(lines: str, public: int | None = None, scheme: str = "http") -> Iterator[Hub]:
        with jupyterhub(lines + SPAWNER, public, scheme) as hub:
            yield hub

    return run


def open_server(hub: Hub, user: str) -> None:
    """Starts a user's server; requests reach it through the proxy."""
    assert hub.api("POST", f"/users/{user}")[0] == 201
    assert hub.api("POST", f"/users/{user}/server")[0] in (201, 202)

    def is_ready() -> bool:
        return bool(hub.api("GET", f"/users/{user}")[1]["servers"].get("", {}).get("ready"))

    wait_for(f"{user}'s server", is_ready)
    assert get(hub.url, f"/user/{user}/lab") == (200, f"/user/{user}/")


def get(url: str, path: str, login: str | None = None) -> tuple[int, str]:
    """The status and the text of an answer; ``login`` is NAME:PASSWORD."""
    scheme, _, server = url.partition("://")
    connection = http.client.HTTPConnection(server, timeout=20)
    if scheme == "https":
        connection = http.client.HTTPSConnection(server, timeout=20, context=UNVERIFIED)
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


class Server:
    """A program that is killed at the end of its test."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command, self.log = command, open(log, "a")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def traefik(tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    """Starts Traefiks with this static configuration, which JupyterHub knows nothing of."""
    started: list[Server] = []

    def start(config: str) -> Server:
        file = tmp_path / f"traefik-{len(started)}.toml"
        file.write_text(config)
        program = Path(sys.executable).with_name("traefik")
        started.append(Server([str(program), f"--configFile={file}"], tmp_path / "traefik.log"))
        return started[-1]

    yield start
    for server in started:
        server.stop()


class Etcd:
    """A server of its own."""

    def __init__(self, folder: Path) -> None:
        client, peer = free_ports(2)
        self.url = f"http://127.0.0.1:{client}"
        self.program = Path(named("ETCD_BIN", "etcd-3.5"))
        peer_url = f"http://127.0.0.1:{peer}"
        urls = {
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": f"default={peer_url}",
            "data-dir": str(folder / "etcd"),
            "bcrypt-cost": "4",
        }
        arguments = [f"--{name}={value}" for name, value in urls.items()]
        self.server = Server([str(self.program), *arguments], folder / "etcd.log")
        wait_for("etcd", self.answers)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False

    def ctl(self, *arguments: str) -> str:
        """What etcdctl says."""
        program = self.program.with_name("etcdctl")
        environment = {**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": self.url}
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def keys(self, prefix: str, *login: str) -> list[str]:
        return self.ctl("get", "--prefix", "--keys-only", prefix, *login).split()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    etcd = Etcd(tmp_path)
    yield etcd
    etcd.server.stop()


class Redis:
    """A server of its own."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}"
        self.login = ""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self.server = Server([named("REDIS_BIN", "redis"), *options], folder / "redis.log")
        wait_for("Redis", self.answers)

    def answers(self) -> bool:
        try:
            return self.ask("PING") == ["+PONG"]
        except OSError:
            return False

    def ask(self, command: str) -> list[str]:
        """The lines of the answer to a command in one line."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(f"{self.login}{command}\r\nQUIT\r\n".encode())
            answer = connection.makefile("rb").read().decode().split("\r\n")
        # One that is empty, and those to AUTH and QUIT.
        lines = answer[1 if self.login else 0 : -2]
        assert not any(line.startswith("-") for line in lines), lines
        return lines

    def keys(self, prefix: str) -> list[str]:
        return [line for line in self.ask(f"KEYS {prefix}*") if line.startswith(prefix)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    redis = Redis(tmp_path)
    yield redis
    redis.server.stop()


def named(variable: str, tool: str) -> str:
    """The program that a variable names; ``cargo xtask python`` sets it."""
    program = os.environ.get(variable)
    assert program, f"{variable} is not set: run `cargo xtask python`, or set it (`cargo xtask tools {tool}`)"
    return program


def children() -> dict[int, list[str]]:
    """The command lines of all processes that we may see."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found[int(folder.name)] = (folder / "cmdline").read_text(errors="replace").split("\0")
            except OSError:
                continue
    return found


def settings_of(proxy: Any) -> dict[str, Any]:
    """What the settings file of a proxy says, each value as JSON has it."""
    from traefik_router.settings import SettingsFolder

    lines = Path(SettingsFolder(proxy.settings_folder).main).read_text().splitlines()
    return {key: json.loads(value) for key, _, value in (line.partition(" = ") for line in lines)}
