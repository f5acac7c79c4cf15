"""Programs that run beside JupyterHub, such as a Traefik of others, and a kernel of one of its servers."""

import asyncio
import json
import os
import subprocess
import urllib.request
import uuid
from pathlib import Path

from hub import TOKEN, free_ports
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

PASSWORD = "made-up-password-of-the-api-of-32-letters"


class Program:
    """A program that can be killed, and started again with the same arguments."""

    def __init__(self, name, command, **env):
        self.name, self.command, self.env = name, command, os.environ | env
        self.start()

    def start(self):
        with open(f"{self.name}.log", "a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.env)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Traefik(Program):
    """As `traefik-router config` prints it, with this port for requests."""

    def __init__(self, name, store, web=None):
        free, self.api = free_ports(2)
        self.web = web or free
        self.url = f"http://127.0.0.1:{self.web}"
        self.api_url = f"http://127.0.0.1:{self.api}"
        printed = ["--chp", "--backend", store, "--api-url", self.api_url]
        named = ["--dynamic-config-file", str(Path(f"{name}.dynamic.toml").resolve())]
        if store == "push":
            config("dynamic", f"{name}.dynamic.toml", *printed, "--with-secrets")
        else:
            named = []
        public = ["--public-url", self.url]
        config("static", f"{name}.toml", *printed, *public, *named, "--with-secrets")
        super().__init__(name, [os.environ["TRAEFIK_BIN"], f"--configFile={name}.toml"])


class Kernel:
    """A kernel's WebSocket, which stays open."""

    def __init__(self, url, user):
        self.headers = {"Authorization": f"token {TOKEN}"}
        request = urllib.request.Request(
            f"{url}/user/{user}/api/kernels", data=b"{}", headers=self.headers
        )
        kernel = json.loads(urllib.request.urlopen(request, timeout=60).read())["id"]
        self.url = f"{url.replace('http', 'ws', 1)}/user/{user}/api/kernels/{kernel}/channels"

    async def connect(self):
        self.socket = await websocket_connect(HTTPRequest(self.url, headers=self.headers))

    async def compute(self, code):
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3"}
        header |= {"session": "s", "username": "u", "date": "2026-01-01T00:00:00Z"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell"}
        message["content"] = {"code": code, "silent": False, "store_history": True}
        await self.socket.write_message(json.dumps(message))
        while True:
            text = await asyncio.wait_for(self.socket.read_message(), 60)
            assert text is not None, "the kernel's WebSocket was closed"
            said = json.loads(text)
            if said["msg_type"] == "execute_result" and said["parent_header"]["msg_id"] == header["msg_id"]:
                return said["content"]["data"]["text/plain"]


def config(kind, file, *arguments):
    command = ["traefik-router", "config", kind, *arguments]
    env = os.environ | {"TRAEFIK_API_PASSWORD": PASSWORD}
    if kind == "static":
        del env["TRAEFIK_API_PASSWORD"]
    Path(file).write_text(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)
