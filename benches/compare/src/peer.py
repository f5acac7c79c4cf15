"""Drives jupyterhub-traefik-proxy: a command a line on standard input, an answer a line.

Arguments: JSON with backend, folder, public, api, server (the store's URL or null), routes, cheap.
"""

import asyncio
import base64
import hashlib
import json
import logging
import os
import signal
import sys
import threading
import time

options = json.loads(sys.argv[1])
answers = os.fdopen(os.dup(1), "w", buffering=1)
# Traefik writes to what it inherits.
log = os.open(os.path.join(options["folder"], "peer.log"), os.O_WRONLY | os.O_CREAT)
os.dup2(log, 1)
os.dup2(log, 2)

PASSWORD = "compare-password"
BASE = options["routes"]


def say(**answer):
    answers.write(json.dumps(answer) + "\n")


def route(n, target=None):
    m = n if target is None else target
    target = f"http://10.{m >> 16}.{m >> 8 & 255}.{m & 255}:8888"
    return f"/user/n{n}/", target, {"user": f"n{n}"}


def make():
    settings = dict(
        public_url=f"http://127.0.0.1:{options['public']}",
        traefik_api_url=f"http://127.0.0.1:{options['api']}",
        traefik_api_username="jupyterhub",
        traefik_api_password=PASSWORD,
        static_config_file=os.path.join(options["folder"], "static.toml"),
        should_start=True,
        check_route_timeout=120,
    )
    if options["cheap"]:
        digest = hashlib.sha1(PASSWORD.encode()).digest()
        settings["traefik_api_hashed_password"] = "{SHA}" + base64.b64encode(digest).decode()
    if options["backend"] == "etcd":
        from jupyterhub_traefik_proxy.etcd import TraefikEtcdProxy

        return TraefikEtcdProxy(etcd_url=options["server"], **settings)
    if options["backend"] == "redis":
        from jupyterhub_traefik_proxy.redis import TraefikRedisProxy

        return TraefikRedisProxy(redis_url=options["server"], **settings)
    from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy

    rules = os.path.join(options["folder"], "rules." + options["backend"])
    return TraefikFileProviderProxy(dynamic_config_file=rules, **settings)


async def fill(proxy):
    """Routes that are there before Traefik starts, as the proxy itself would have left them."""
    from jupyterhub_traefik_proxy.traefik_utils import deep_merge

    if options["server"] is None:
        config = proxy.dynamic_config
        for n in range(BASE):
            ours, hub = proxy._dynamic_config_for_route(*route(n))
            for kind in ("routers", "services"):
                config["http"][kind].update(ours["http"][kind])
            config["jupyterhub"]["routes"].update(hub["routes"])
        return
    for start in range(0, BASE, 8):
        keys = {}
        for n in range(start, min(start + 8, BASE)):
            ours, hub = proxy._dynamic_config_for_route(*route(n))
            keys.update(proxy.flatten_dict_for_kv(ours, prefix=proxy.kv_traefik_prefix))
            keys.update(proxy.flatten_dict_for_kv(hub, prefix=proxy.kv_jupyterhub_prefix))
        await proxy._kv_atomic_set(keys)


async def run(proxy, command):
    name, *count = command.split()
    n = int(count[0]) if count else 0
    start = time.perf_counter()
    if name == "add":
        await proxy.add_route(*route(BASE))
    elif name == "change":
        await proxy.add_route(*route(BASE, BASE + 500_000))
    elif name == "delete":
        await proxy.delete_route(f"/user/n{BASE}/")
    elif name == "bulk":
        await asyncio.gather(*(proxy.add_route(*route(BASE + 1 + i)) for i in range(n)))
    else:
        raise ValueError(f"no such command: {command}")
    elapsed = time.perf_counter() - start
    # What it does not wait for must not disturb the next one who measures.
    if name in ("change", "delete"):
        await asyncio.sleep(0.1 + 0.0004 * BASE)
    return elapsed * 1e3


async def main():
    logging.disable(logging.CRITICAL)
    os.environ["PATH"] = options["folder"] + os.pathsep + os.environ["PATH"]
    proxy = make()
    loop = asyncio.get_running_loop()
    commands = asyncio.Queue()

    def read():
        for line in sys.stdin:
            loop.call_soon_threadsafe(commands.put_nowait, line.strip())
        # Whoever asked is gone.
        if proxy.traefik_process is not None:
            proxy.traefik_process.send_signal(signal.SIGKILL)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    try:
        await fill(proxy)
        await proxy.start()
        if BASE:
            await proxy._wait_for_route(f"/user/n{BASE - 1}/")
        say(ready=True, pid=proxy.traefik_process.pid)
        while True:
            command = await commands.get()
            try:
                say(ms=await run(proxy, command))
            except Exception as error:
                say(error=f"{type(error).__name__}: {error}")
    except Exception as error:
        say(error=f"{type(error).__name__}: {error}")
        raise


asyncio.run(main())
