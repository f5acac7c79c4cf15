"""Makes legacy.toml and legacy.yaml: what jupyterhub-traefik-proxy 2.1.0 leaves in its file.

Drives the real package against a real Traefik. Run by hand, with `traefik` on PATH:

    python3 -m venv venv
    venv/bin/pip install jupyterhub-traefik-proxy==2.1.0 ruamel.yaml
    venv/bin/python tests/data/make_legacy.py

Targets and password are made up; nothing in the files is a secret.
"""

import asyncio
import logging
import os
import shutil
import tempfile

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


async def make(ending):
    with tempfile.TemporaryDirectory() as folder:
        rules = os.path.join(folder, f"rules.{ending}")
        proxy = TraefikFileProviderProxy(
            public_url="http://127.0.0.1:18000",
            traefik_api_url="http://127.0.0.1:18099",
            traefik_api_username="jupyterhub",
            traefik_api_password="made-up",
            traefik_providers_throttle_duration="0s",
            static_config_file=os.path.join(folder, "traefik.toml"),
            dynamic_config_file=rules,
            check_route_timeout=30,
            log=logging.getLogger("make_legacy"),
        )
        await proxy.start()
        try:
            for routespec, target, data in ROUTES:
                await proxy.add_route(routespec, target, data)
            shutil.copyfile(rules, os.path.join(HERE, f"legacy.{ending}"))
        finally:
            await proxy.stop()


for ending in ("toml", "yaml"):
    asyncio.run(make(ending))
