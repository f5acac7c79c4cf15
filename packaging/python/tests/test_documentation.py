"""The examples of jupyterhub-traefik-proxy's documentation, on a real JupyterHub, Traefik, etcd and Redis.

The lines are those of its pages. Only addresses, ports and names of files differ.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from certipy import Certipy  # type: ignore[import-untyped]
from conftest import Etcd, Redis, Running, Server, children, get, open_server
from hub import free_ports, wait_for


# Using TraefikFileProviderProxy


def test_file_managed(running: Running, tmp_path: Path) -> None:
    lines = """
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikFileProviderProxy.static_config_file = "static_config_filename.toml"
c.TraefikFileProviderProxy.dynamic_config_file = "dynamic_config_filename.toml"
"""
    with running(lines) as hub:
        open_server(hub, "ada")
        assert "/user/ada/" in (tmp_path / "dynamic_config_filename.toml").read_text()
        log = (tmp_path / "hub.log").read_text()
        assert log.count("TraefikFileProviderProxy.static_config_file has no effect") == 1
    assert not (tmp_path / "jupyterhub-traefik-router").exists()


def test_file_managed_yaml(running: Running, tmp_path: Path) -> None:
    lines = """
from traefik_router import TraefikFileProviderProxy
c.JupyterHub.proxy_class = TraefikFileProviderProxy
c.TraefikFileProviderProxy.dynamic_config_file = "rules.yaml"
"""
    with running(lines) as hub:
        open_server(hub, "ada")
        assert "/user/ada/" in (tmp_path / "rules.yaml").read_text()


# Using traefik-proxy with etcd


def test_etcd_managed(running: Running, etcd: Etcd) -> None:
    lines = f"""
c.JupyterHub.proxy_class = "traefik_etcd"
c.TraefikEtcdProxy.etcd_url="{etcd.url}"
"""
    with running(lines) as hub:
        open_server(hub, "ada")
        assert etcd.keys("traefik/http/routers/")
        assert etcd.keys("jupyterhub/")


def test_etcd_prefixes(running: Running, etcd: Etcd) -> None:
    lines = f"""
from traefik_router import TraefikEtcdProxy
c.JupyterHub.proxy_class = TraefikEtcdProxy
c.TraefikEtcdProxy.etcd_traefik_prefix="/some_static_config_prefix/"
c.TraefikEtcdProxy.etcd_jupyterhub_prefix="/some_dynamic_config_prefix/"
c.TraefikEtcdProxy.etcd_url="{etcd.url}"
"""
    with running(lines) as hub:
        open_server(hub, "ada")
        assert etcd.keys("some_static_config_prefix/http/routers/")
        assert etcd.keys("some_dynamic_config_prefix/")
        assert not etcd.keys("traefik") + etcd.keys("jupyterhub")


def add_user(etcd: Etcd) -> None:
    """Turns users on: ``def``, with the password 456, may do what JupyterHub and Traefik do."""
    etcd.ctl("role", "add", "routes")
    for first, end in [("traefik", "traefil"), ("jupyterhub/", "jupyterhub0")]:
        etcd.ctl("role", "grant-permission", "routes", "readwrite", first, end)
    etcd.ctl("user", "add", "def:456")
    etcd.ctl("user", "grant-role", "def", "routes")
    etcd.ctl("user", "add", "root:789")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("auth", "enable")


def test_etcd_with_users(running: Running, etcd: Etcd, tmp_path: Path) -> None:
    add_user(etcd)
    lines = f"""
c.JupyterHub.proxy_class = "traefik_etcd"
c.TraefikEtcdProxy.etcd_url="{etcd.url}"
# etcd credentials
c.TraefikEtcdProxy.etcd_username = "def"
c.TraefikEtcdProxy.etcd_password = "456"
"""
    with running(lines) as hub:
        open_server(hub, "ada")
        assert etcd.keys("traefik/http/routers/", "--user", "def:456")
        folder = tmp_path / "jupyterhub-traefik-router"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
        ours = [line for line in children().values() if str(folder) in " ".join(line)]
        assert ours
        assert not any("456" in part for line in ours for part in line)


#: What the page has Traefik's static configuration be, in the words of Traefik 3.
EXTERNAL = """
[api]

[entryPoints.http]
address = "127.0.0.1:{http}"

[entryPoints.auth_api]
address = "127.0.0.1:{api}"

[providers]
providersThrottleDuration = "0s"
"""


def etcd_provider(etcd: Etcd, more: str = "") -> str:
    return f"""
[providers.etcd]
endpoints = ["{etcd.url.removeprefix("http://")}"]
rootKey = "traefik"
{more}
"""


def test_etcd_external(running: Running, etcd: Etcd, traefik: Callable[[str], Server], tmp_path: Path) -> None:
    http, api = free_ports(2)
    # Traefik watches no empty etcd.
    etcd.ctl("put", "traefik/http/services/keep/loadBalancer/passHostHeader", "true")
    traefik(EXTERNAL.format(http=http, api=api) + etcd_provider(etcd))
    lines = f"""
c.JupyterHub.proxy_class = "traefik_etcd"
# JupyterHub shouldn't start the proxy, it's already running
c.TraefikEtcdProxy.should_start = False

# if not the default:
c.TraefikEtcdProxy.etcd_url = "{etcd.url}"
c.TraefikEtcdProxy.traefik_api_url = "http://127.0.0.1:{api}"

# traefik api credentials
c.TraefikEtcdProxy.traefik_api_username = "abc"
c.TraefikEtcdProxy.traefik_api_password = "123"
"""
    with running(lines, http) as hub:
        open_server(hub, "ada")
        assert get(f"http://127.0.0.1:{api}", "/api/version", "abc:123")[0] == 200
        assert not [line for line in children().values() if "123" in line and str(tmp_path) in " ".join(line)]
    # The routes stay where Traefik goes on.
    assert get(f"http://127.0.0.1:{http}", "/user/ada/lab")[0] != 404


def test_etcd_external_with_users(running: Running, etcd: Etcd, traefik: Callable[[str], Server]) -> None:
    http, api = free_ports(2)
    etcd.ctl("put", "traefik/http/services/keep/loadBalancer/passHostHeader", "true")
    add_user(etcd)
    login = 'username = "def"\npassword = "456"\n'
    traefik(EXTERNAL.format(http=http, api=api) + etcd_provider(etcd, login))
    lines = f"""
from traefik_router import TraefikEtcdProxy

# mark the proxy as externally managed
c.TraefikEtcdProxy.should_start = False

# traefik api endpoint login password
c.TraefikEtcdProxy.traefik_api_password = "abc"

# traefik api endpoint login username
c.TraefikEtcdProxy.traefik_api_username = "123"
c.TraefikEtcdProxy.traefik_api_url = "http://127.0.0.1:{api}"

# etcd url where it accepts client requests
c.TraefikEtcdProxy.etcd_url = "{etcd.url}"

# configure JupyterHub to use TraefikEtcdProxy
c.JupyterHub.proxy_class = TraefikEtcdProxy

# etcd username
c.TraefikEtcdProxy.etcd_username = "def"

# etcd password
c.TraefikEtcdProxy.etcd_password = "456"
"""
    with running(lines, http) as hub:
        open_server(hub, "ada")


# Using traefik-proxy with Redis


def test_redis_managed(running: Running, redis: Redis) -> None:
    lines = f"""
c.JupyterHub.proxy_class = "traefik_redis"
c.TraefikRedisProxy.redis_url = "{redis.url}"
"""
    with running(lines) as hub:
        open_server(hub, "ada")
        assert redis.keys("traefik/http/routers/")
        assert redis.keys("jupyterhub/")


def test_redis_with_users(running: Running, redis: Redis, tmp_path: Path) -> None:
    redis.ask("ACL SETUSER def on >456 ~* &* +@all")
    redis.login = "AUTH def 456\r\n"
    redis.ask("ACL SETUSER default off")
    lines = f"""
from traefik_router import TraefikRedisProxy
c.JupyterHub.proxy_class = TraefikRedisProxy
c.TraefikRedisProxy.redis_url = "{redis.url}"
c.TraefikRedisProxy.kv_traefik_prefix = "some_prefix"
# redis credentials
c.TraefikRedisProxy.redis_username = "def"
c.TraefikRedisProxy.redis_password = "456"
"""
    with running(lines) as hub:
        open_server(hub, "ada")
        assert redis.keys("some_prefix/http/routers/")
        assert not redis.keys("traefik")
        ours = [line for line in children().values() if str(tmp_path) in " ".join(line)]
        assert ours
        assert not any("456" in part for line in ours for part in line)


def test_redis_with_sentinel(running: Running, redis: Redis, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    file = tmp_path / "sentinel.conf"
    file.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {redis.port} 1\n")
    sentinel = Server([redis.server.command[0], str(file), "--sentinel"], tmp_path / "sentinel.log")
    lines = f"""
c.JupyterHub.proxy_class = "traefik_redis"
c.TraefikRedisProxy.redis_url = "redis+sentinel:mymaster,redis://127.0.0.1:{port}"
"""
    try:
        with running(lines) as hub:
            open_server(hub, "ada")
            assert redis.keys("traefik/http/routers/")
    finally:
        sentinel.stop()


def test_redis_external(running: Running, redis: Redis, traefik: Callable[[str], Server]) -> None:
    http, api = free_ports(2)
    redis.ask("CONFIG SET requirepass 456")
    redis.login = "AUTH 456\r\n"
    redis.ask("SET traefik/http/services/keep/loadBalancer/passHostHeader true")
    address = redis.url.removeprefix("redis://")
    provider = f'[providers.redis]\nendpoints = ["{address}"]\nrootKey = "traefik"\npassword = "456"\n'
    traefik(EXTERNAL.format(http=http, api=api) + provider)
    lines = f"""
c.JupyterHub.proxy_class = "traefik_redis"
# JupyterHub shouldn't start the proxy, it's already running
c.TraefikRedisProxy.should_start = False

# if not the default:
c.TraefikRedisProxy.redis_url = "{redis.url}"
c.TraefikRedisProxy.redis_password = "456"
c.TraefikRedisProxy.traefik_api_url = "http://127.0.0.1:{api}"

# traefik api credentials
c.TraefikRedisProxy.traefik_api_username = "abc"
c.TraefikRedisProxy.traefik_api_password = "123"
"""
    with running(lines, http) as hub:
        open_server(hub, "ada")
        assert get(f"http://127.0.0.1:{api}", "/api/version", "abc:123")[0] == 200


def watched_file(tmp_path: Path) -> tuple[Path, str]:
    """A file for routes, and the provider of its folder."""
    rules = tmp_path / "traefik" / "rules.toml"
    rules.parent.mkdir()
    return rules, f'[providers.file]\ndirectory = "{rules.parent}"\nwatch = true\n'


def test_file_external(running: Running, traefik: Callable[[str], Server], tmp_path: Path) -> None:
    http, api = free_ports(2)
    rules, directory = watched_file(tmp_path)
    traefik(EXTERNAL.format(http=http, api=api) + directory)
    lines = f"""
# mark the proxy as externally managed
c.TraefikFileProviderProxy.should_start = False

# traefik api endpoint login password
c.TraefikFileProviderProxy.traefik_api_password = "admin"

# traefik api endpoint login username
c.TraefikFileProviderProxy.traefik_api_username = "api_admin"
c.TraefikFileProviderProxy.traefik_api_url = "http://127.0.0.1:{api}"

# traefik's dynamic configuration file, which will be managed by JupyterHub
c.TraefikFileProviderProxy.dynamic_config_file = "{rules}"

# configure JupyterHub to use TraefikFileProviderProxy
c.JupyterHub.proxy_class = "traefik_file"
"""
    with running(lines, http) as hub:
        open_server(hub, "ada")


def test_external_with_https(running: Running, traefik: Callable[[str], Server], tmp_path: Path) -> None:
    """Traefik's entrypoints have the names that jupyterhub-traefik-proxy gives them, and one that the user gives."""
    https, api = free_ports(2)
    certificates = Certipy(store_dir=str(tmp_path / "certificates"))
    certificates.create_ca("ca")
    names = ["IP:127.0.0.1"]
    files = certificates.create_signed_pair("hub", "ca", alt_names=names)["files"]
    rules, directory = watched_file(tmp_path)
    config = EXTERNAL.format(http=https, api=api).replace("entryPoints.http", "entryPoints.https")
    config = config.replace("entryPoints.auth_api", "entryPoints.private")
    traefik(config + "[entryPoints.https.http.tls]\n" + directory)
    lines = f"""
c.JupyterHub.proxy_class = "traefik_file"
c.JupyterHub.ssl_cert = "{files["cert"]}"
c.JupyterHub.ssl_key = "{files["key"]}"
c.TraefikFileProviderProxy.should_start = False
c.TraefikFileProviderProxy.traefik_api_url = "http://127.0.0.1:{api}"
c.TraefikFileProviderProxy.traefik_api_password = "123"
c.TraefikFileProviderProxy.traefik_api_entrypoint = "private"
c.TraefikFileProviderProxy.dynamic_config_file = "{rules}"
"""
    with running(lines, https, "https") as hub:
        open_server(hub, "ada")
        assert get(f"http://127.0.0.1:{api}", "/api/version", "jupyterhub:123")[0] == 200
        shown = ssl.get_server_certificate(("127.0.0.1", https))
        assert shown.split() == Path(files["cert"]).read_text().split()


# Implementation details: Traefik's API


def test_api_of_a_started_traefik(running: Running) -> None:
    (port,) = free_ports(1)
    lines = f"""
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikFileProviderProxy.traefik_api_url = "http://127.0.0.1:{port}"
c.TraefikFileProviderProxy.traefik_api_password = "admin"
c.TraefikFileProviderProxy.traefik_api_username = "admin"
"""
    with running(lines) as hub:
        open_server(hub, "ada")
        api = f"http://127.0.0.1:{port}"
        assert get(api, "/api/version")[0] == 401
        assert get(api, "/api/version", "admin:admin")[0] == 200
        entrypoints = json.loads(get(api, "/api/entrypoints", "admin:admin")[1])
        assert "auth_api" in [entrypoint["name"] for entrypoint in entrypoints]


# Enabling HTTPS


def test_entrypoint_and_more_configuration(running: Running, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    lines = f"""
c.JupyterHub.proxy_class = "traefik_router"
c.TraefikProxy.traefik_entrypoint = "web"
c.TraefikProxy.traefik_log_level = "INFO"
c.TraefikProxy.extra_static_config = {{
    "entryPoints": {{"more": {{"address": "127.0.0.1:{port}"}}}},
}}
c.TraefikProxy.extra_dynamic_config = {{
    "http": {{
        "routers": {{
            "more": {{
                "rule": "PathPrefix(`/`)",
                "entryPoints": ["more"],
                "service": "more",
            }}
        }},
        "services": {{"more": {{"loadBalancer": {{"servers": [{{"url": "http://127.0.0.1:1"}}]}}}}}},
    }}
}}
"""
    with running(lines) as hub:
        open_server(hub, "ada")
        assert get(f"http://127.0.0.1:{port}", "/")[0] == 502


def test_killed_program_is_started_again(running: Running, tmp_path: Path) -> None:
    """JupyterHub starts ``chp`` again, with its settings, and sends it the routes."""
    try:
        with running('c.JupyterHub.proxy_class = "traefik_router"\nc.ConfigurableHTTPProxy.check_running_interval = 1\n') as hub:
            open_server(hub, "ada")
            os.kill(int((tmp_path / "jupyterhub-proxy.pid").read_text()), 9)

            def serves_again() -> bool:
                try:
                    return get(hub.url, "/user/ada/lab") == (200, "/user/ada/")
                except OSError:
                    return False

            wait_for("the proxy to end", lambda: not serves_again())
            wait_for("the proxy", serves_again)
    finally:
        # JupyterHub may start it once more while it ends itself.
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((tmp_path / "jupyterhub-proxy.pid").read_text()), signal.SIGTERM)
