"""What the traits become in the settings file, without a JupyterHub."""

from __future__ import annotations

import json
import logging
import os
import stat
from importlib.metadata import PackageNotFoundError, entry_points
from pathlib import Path
from typing import Any

import pytest
from conftest import settings_of
from traitlets import TraitError
from traitlets.config import Config
from traefik_router import (
    TraefikEtcdProxy,
    TraefikFileProviderProxy,
    TraefikProxy,
    TraefikRedisProxy,
    TraefikTomlProxy,
)
from traefik_router.settings import FILES, TABLE, SettingsFolder, toml, write

# All traits that jupyterhub-traefik-proxy 2.1 lets a user configure for these classes, without those of
# JupyterHub itself.
OF_TRAEFIK_PROXY = """
    check_route_timeout enable_setup_dynamic_config extra_dynamic_config extra_static_config
    static_config_file toml_static_config_file traefik_api_entrypoint traefik_api_hashed_password
    traefik_api_password traefik_api_url traefik_api_username traefik_api_validate_cert traefik_entrypoint
    traefik_env traefik_log_level traefik_providers_throttle_duration
"""
OF_FILE = "dynamic_config_file"
OF_ETCD = """
    etcd_client_kwargs etcd_password etcd_url etcd_username kv_jupyterhub_prefix kv_password kv_separator
    kv_traefik_prefix kv_url kv_username
"""
OF_REDIS = """
    kv_jupyterhub_prefix kv_separator kv_traefik_prefix redis_client_kwargs redis_password redis_url redis_username
"""
# Those of its version 1, and the names on an older page "Using traefik-proxy with etcd".
OF_ETCD_BEFORE = """
    etcd_client_ca_cert etcd_client_cert_crt etcd_client_cert_key etcd_insecure_skip_verify
    etcd_jupyterhub_prefix etcd_traefik_prefix grpc_options
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def proxy(kind: type[TraefikProxy] = TraefikProxy, **traits: Any) -> Any:
    """A proxy whose class has these traits set in the configuration."""
    return kind(config=Config({kind.__name__: traits}), auth_token="x")


def settings(kind: type[TraefikProxy], **traits: Any) -> dict[str, Any]:
    made = proxy(kind, **traits)
    folder = SettingsFolder(made.settings_folder)
    options, remarks = write(made, folder)
    assert (options[:2], remarks) == (["--config", folder.main], [])
    return settings_of(made)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (TraefikProxy, OF_TRAEFIK_PROXY),
        (TraefikFileProviderProxy, OF_TRAEFIK_PROXY + OF_FILE),
        (TraefikTomlProxy, OF_TRAEFIK_PROXY + OF_FILE + " toml_dynamic_config_file"),
        (TraefikEtcdProxy, OF_TRAEFIK_PROXY + OF_ETCD + OF_ETCD_BEFORE),
        (TraefikRedisProxy, OF_TRAEFIK_PROXY + OF_REDIS),
    ],
)
def test_every_documented_trait_is_known(kind: type[TraefikProxy], names: str) -> None:
    traits = kind.class_traits(config=True)
    for name in names.split():
        assert name in traits
        assert name.endswith("_client_kwargs") or kind.older_names.get(name, name) in TABLE


def test_file_is_named_by_its_kind(tmp_path: Path) -> None:
    for name, kind in [("rules.toml", "toml"), ("rules.yaml", "yaml"), ("a/rules.yml", "yaml")]:
        assert settings(TraefikFileProviderProxy, dynamic_config_file=name) == {
            "backend": f"{kind}:{tmp_path / name}"
        }
    assert settings(TraefikTomlProxy, toml_dynamic_config_file="r.toml")["backend"] == f"toml:{tmp_path}/r.toml"


def test_etcd_traits_become_settings(tmp_path: Path) -> None:
    assert settings(TraefikEtcdProxy) == {"backend": "etcd:http://127.0.0.1:2379"}
    expected = {
        "backend": "etcd:https://e:1",
        "etcd-user": "hub",
        "etcd-password-file": f"{tmp_path}/jupyterhub-traefik-router/etcd-password-file",
        "etcd-ca-file": f"{tmp_path}/ca.pem",
        "traefik-prefix": "/a/",
        "jupyterhub-prefix": "/b/",
    }
    rest = {"etcd_client_ca_cert": "ca.pem"}
    now = {"etcd_url": "https://e:1", "etcd_username": "hub", "etcd_password": "hunter2"}
    prefixes = {"kv_traefik_prefix": "/a/", "kv_jupyterhub_prefix": "/b/"}
    assert settings(TraefikEtcdProxy, **now, **prefixes, **rest) == expected
    older = {"kv_url": "https://e:1", "kv_username": "hub", "kv_password": "hunter2"}
    older_prefixes = {"etcd_traefik_prefix": "/a/", "etcd_jupyterhub_prefix": "/b/"}
    assert settings(TraefikEtcdProxy, **older, **older_prefixes, **rest) == expected
    client = {"ca_cert": "ca.pem", "user": "hub", "password": "hunter2"}
    assert settings(TraefikEtcdProxy, etcd_url="https://e:1", **prefixes, etcd_client_kwargs=client) == expected
    assert Path(expected["etcd-password-file"]).read_text() == "hunter2"


def test_redis_traits_become_settings(tmp_path: Path) -> None:
    assert settings(TraefikRedisProxy) == {"backend": "redis:redis://localhost:6379"}
    expected: dict[str, Any] = {
        "backend": "redis:rediss://r:1/2",
        "redis-user": "hub",
        "redis-password-file": f"{tmp_path}/jupyterhub-traefik-router/redis-password-file",
        "redis-ca-file": f"{tmp_path}/ca.pem",
        "redis-change-list": "a/changed",
        "redis-replicas": 1,
        "traefik-prefix": "a",
        "jupyterhub-prefix": "b",
    }
    rest: dict[str, Any] = {"redis_url": "rediss://r:1/2", "redis_change_list": "a/changed", "redis_replicas": 1}
    rest |= {"kv_traefik_prefix": "a", "kv_jupyterhub_prefix": "b"}
    login = {"redis_username": "hub", "redis_password": "hunter2", "redis_client_ca_cert": "ca.pem"}
    assert settings(TraefikRedisProxy, **login, **rest) == expected
    client = {"username": "hub", "password": "hunter2", "ssl_ca_certs": "ca.pem"}
    assert settings(TraefikRedisProxy, redis_client_kwargs=client, **rest) == expected
    assert Path(expected["redis-password-file"]).read_text() == "hunter2"
    assert settings(TraefikRedisProxy, redis_password="hunter2")["redis-user"] == "default"
    sentinel = "redis+sentinel:mymaster,redis://a:26379,redis://b:26379"
    assert settings(TraefikRedisProxy, redis_url=sentinel) == {"backend": sentinel}


def test_unknown_client_argument_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("test")
    config = Config({"TraefikRedisProxy": {"redis_client_kwargs": {"retry": 1}}})
    TraefikRedisProxy(config=config, auth_token="x", log=log)
    assert "TraefikRedisProxy.redis_client_kwargs: retry has no effect" in caplog.text


def test_more_configuration_is_merged() -> None:
    made = proxy(
        traefik_log_level="INFO",
        traefik_providers_throttle_duration="1s",
        extra_static_config={"log": {"level": "WARN"}, "providers": {"file": None}},
        extra_dynamic_config={"http": {"middlewares": {"a": {}}}},
    )
    options, remarks = write(made, SettingsFolder(made.settings_folder))
    assert (options[2::2], remarks) == (["--extra-static-config", "--extra-dynamic-config"], [])
    assert json.loads(Path(options[3]).read_text()) == {
        "log": {"level": "WARN"},
        "providers": {"providersThrottleDuration": "1s", "file": None},
    }
    dynamic = json.loads(Path(options[5]).read_text())
    assert dynamic == {"http": {"middlewares": {"a": {}}}}


def test_only_the_owner_can_read() -> None:
    os.umask(0)
    made = proxy(TraefikEtcdProxy, etcd_username="hub", etcd_password="hunter2", traefik_env={"TOKEN": "secret"})
    folder = SettingsFolder(made.settings_folder)
    # What an earlier one has left is replaced.
    for _ in range(2):
        write(made, folder)
        assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
        files = sorted(os.listdir(folder.path))
        assert files == ["etcd-password-file", "settings.toml", "traefik-env-file"]
        assert set(files) <= {folder.MAIN, *FILES}
        for name in files:
            assert stat.S_IMODE(os.stat(f"{folder.path}/{name}").st_mode) == 0o600
    assert "hunter2" not in Path(folder.main).read_text()
    folder.remove()
    assert not os.path.exists(folder.path)


def test_foreign_files_stay() -> None:
    made = proxy(settings_folder="others")
    Path("others").mkdir()
    Path("others/theirs").write_text("x")
    folder = SettingsFolder(made.settings_folder)
    write(made, folder)
    folder.remove()
    assert os.listdir("others") == ["theirs"]
    os.symlink("others", "link")
    with pytest.raises(PermissionError, match="settings_folder"):
        write(proxy(settings_folder="link"), SettingsFolder("link"))


def test_trait_without_effect_is_reported() -> None:
    made = proxy(TraefikEtcdProxy, static_config_file="t.toml", grpc_options=["a"])
    _, remarks = write(made, SettingsFolder(made.settings_folder))
    assert len(remarks) == 2
    assert remarks[0].startswith("TraefikEtcdProxy.grpc_options has no effect: ")
    assert remarks[1].startswith("TraefikEtcdProxy.static_config_file has no effect: ")


def test_api_without_password_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAEFIK_API_PASSWORD", raising=False)

    def remarks(**traits: Any) -> list[str]:
        made = proxy(**traits)
        return write(made, SettingsFolder(made.settings_folder))[1]

    names = ["traefik_api_entrypoint", "traefik_api_url", "traefik_api_username"]
    traits = dict(zip(names, ["api", "http://127.0.0.1:1", "ada"]))
    why = "has no effect: `traefik_api_password` is not set"
    assert remarks(**traits) == [f"TraefikProxy.{name} {why}" for name in names]
    assert remarks(**traits, traefik_api_password="x") == []
    assert remarks(**traits, traefik_api_hashed_password="x") == []
    # The API of others is asked without a password, too.
    user = {"should_start": False, "traefik_api_url": "http://127.0.0.1:1", "traefik_api_username": "ada"}
    assert remarks(**user) == [f"TraefikProxy.traefik_api_username {why}"]
    monkeypatch.setenv("TRAEFIK_API_PASSWORD", "x")
    assert remarks(**user) == []


def test_variable_of_no_line_is_refused() -> None:
    for name, text in [("A", "x\nB=y"), ("A=B", "x"), ("", "x"), ("#A", "x")]:
        made = proxy(traefik_env={name: text})
        with pytest.raises(ValueError, match=f"traefik_env: {name!r}"):
            write(made, SettingsFolder(made.settings_folder))


def test_api_without_address_is_refused() -> None:
    for url in ["localhost:8099", "127.0.0.1:8099", "http://:8099", "ftp://localhost", ""]:
        for traits in {"traefik_api_url": url}, {"traefik_api_urls": ["http://127.0.0.1:1", url]}:
            with pytest.raises(TraitError, match=next(iter(traits))):
                proxy(**traits)


def test_base_class_has_settings() -> None:
    for kind in TraefikEtcdProxy, TraefikRedisProxy:
        made = kind(config=Config({"TKvProxy": {"kv_traefik_prefix": "a"}}), auth_token="x")
        write(made, SettingsFolder(made.settings_folder))
        assert settings_of(made)["traefik-prefix"] == "a"


def test_should_start_follows_its_class(caplog: pytest.LogCaptureFixture) -> None:
    """On our classes it is about Traefik, on JupyterHub's about ``chp``."""
    for section, is_external, starts_chp in [
        ("TraefikProxy", True, True),
        ("TraefikEtcdProxy", True, True),
        ("ConfigurableHTTPProxy", False, False),
        ("Proxy", False, False),
    ]:
        made = TraefikEtcdProxy(config=Config({section: {"should_start": False}}), auth_token="x")
        assert (made.is_external, made.should_start) == (is_external, starts_chp), section
    assert not proxy(should_start=True).is_external


def test_documented_names_are_ours() -> None:
    found = {entry.name: entry.load() for entry in entry_points(group="jupyterhub.proxies")}
    ours = {
        "traefik_router": TraefikProxy,
        "traefik_router_file": TraefikFileProviderProxy,
        "traefik_router_etcd": TraefikEtcdProxy,
        "traefik_file": TraefikFileProviderProxy,
        "traefik_router_redis": TraefikRedisProxy,
        "traefik_etcd": TraefikEtcdProxy,
        "traefik_redis": TraefikRedisProxy,
        "traefik_toml": TraefikTomlProxy,
    }
    assert {name: found[name] for name in ours} == ours


def test_peer_beside_us_is_reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("test")

    def is_not_there(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("traefik_router.proxies.version", is_not_there)
    TraefikProxy(auth_token="x", log=log)
    assert not caplog.records
    monkeypatch.setattr("traefik_router.proxies.version", lambda _: "2.1.0")
    TraefikProxy(auth_token="x", log=log)
    assert "traefik_router_etcd" in caplog.records[0].getMessage()


def test_toml_is_escaped() -> None:
    text = toml({"a": 'x"\\\n\x7f\U0001f600', "b": ["c", "d"], "e": 3, "f": True})
    assert text == 'a = "x\\"\\\\\\n\\u007f\U0001f600"\nb = ["c", "d"]\ne = 3\nf = true\n'
