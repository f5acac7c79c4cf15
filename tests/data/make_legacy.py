"""Makes legacy.toml, legacy.yaml and legacy-etcd.json: what jupyterhub-traefik-proxy 2.1.0 stores.

Drives the real package against a real Traefik. Run by hand, with `traefik` and `etcd` on PATH:

    python3 -m venv venv
    venv/bin/pip install jupyterhub-traefik-proxy==2.1.0 ruamel.yaml etcdpy
    venv/bin/python tests/data/make_legacy.py

Targets and password are made up; nothing in the files is a secret.
"""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import tempfile

from jupyterhub_traefik_proxy.etcd import TraefikEtcdProxy
from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy

HERE = os.path.dirname(os.path.abspath(__file__))

ROUTES = [
    ("/", "http://127.0.0.1:9000", {"hub": True}),
    (
        "/user/zoe/",
        "http://127.0.0.1:9001",
        {"user": "zoe", "server_name": "", "nested": {"list": [1, 2.5, "x"], "flag": False}},
    ),
    ("/user/zo%C3%AB/has%20space/", "http://127.0.0.1:9002", {"user": "zoë", "quoted": "it's \"so\""}),
    ("/user/a@b/", "http://127.0.0.1:9003", {"user": "a@b"}),
    ("host.name/path/", "http://127.0.0.1:9004", {"user": "zoe", "server_name": "lab"}),
]


def options(folder):
    return dict(
        public_url="http://127.0.0.1:18000",
        traefik_api_url="http://127.0.0.1:18099",
        traefik_api_username="jupyterhub",
        traefik_api_password="made-up",
        traefik_providers_throttle_duration="0s",
        static_config_file=os.path.join(folder, "traefik.toml"),
        check_route_timeout=30,
        log=logging.getLogger("make_legacy"),
    )


async def make(proxy, dump):
    await proxy.start()
    try:
        for routespec, target, data in ROUTES:
            await proxy.add_route(routespec, target, data)
        dump()
    finally:
        await proxy.stop()


def make_file(ending):
    with tempfile.TemporaryDirectory() as folder:
        rules = os.path.join(folder, f"rules.{ending}")
        proxy = TraefikFileProviderProxy(dynamic_config_file=rules, **options(folder))
        made = os.path.join(HERE, f"legacy.{ending}")
        asyncio.run(make(proxy, lambda: shutil.copyfile(rules, made)))


def make_etcd():
    with tempfile.TemporaryDirectory() as folder:
        urls = ["--listen-client-urls", "http://127.0.0.1:18379"]
        urls += ["--advertise-client-urls", "http://127.0.0.1:18379"]
        urls += ["--listen-peer-urls", "http://127.0.0.1:18380"]
        etcd = subprocess.Popen(["etcd", "--data-dir", folder + "/data", *urls])
        try:
            proxy = TraefikEtcdProxy(etcd_url="http://127.0.0.1:18379", **options(folder))

            def dump():
                stored = {meta.key.decode(): value.decode() for value, meta in proxy.etcd.get_all()}
                with open(os.path.join(HERE, "legacy-etcd.json"), "w") as made:
                    json.dump(stored, made, indent=1, sort_keys=True, ensure_ascii=False)
                    made.write("\n")

            asyncio.run(make(proxy, dump))
        finally:
            etcd.terminate()
            etcd.wait()


for ending in ("toml", "yaml"):
    make_file(ending)
make_etcd()
