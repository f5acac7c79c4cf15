"""What the traits of a proxy class become in the settings file of ``traefik-router chp``: one table."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlparse

Value = str | int | bool | list[str]
#: A :class:`~traefik_router.TraefikProxy`; its module stands above this one.
Proxy = Any


class SettingsFolder:
    """A folder of mode 0700 with the settings file and the files that it names, all of mode 0600."""

    MAIN = "settings.toml"

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    @property
    def main(self) -> str:
        return os.path.join(self.path, self.MAIN)

    def clear(self) -> None:
        """Makes the folder ready to be written to, without what an earlier proxy has left there."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        found = os.lstat(self.path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{self.path} is no folder that this user owns: set `settings_folder` to another one")
        os.chmod(self.path, 0o700)
        self._remove_files()

    def write(self, name: str, text: str) -> str:
        """Writes a file; returns its path."""
        path = os.path.join(self.path, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def remove(self) -> None:
        """Removes our files, and the folder if nothing else is in it."""
        try:
            self._remove_files()
            os.rmdir(self.path)
        except OSError:
            # Somebody else has put something into it, or has removed it.
            pass

    def _remove_files(self) -> None:
        for name in [self.MAIN, *FILES]:
            try:
                os.remove(os.path.join(self.path, name))
            except FileNotFoundError:
                pass


# How a value is written: functions of the value, the folder and the setting's key.


def as_it_is(value: Value, _folder: SettingsFolder, _key: str) -> Value:
    return value


def as_opposite(value: Any, _folder: SettingsFolder, _key: str) -> Value:
    return not value


def as_path(value: Any, _folder: SettingsFolder, _key: str) -> Value:
    return str(os.path.abspath(value))


def as_list(value: Any, _folder: SettingsFolder, _key: str) -> Value:
    return [value] if isinstance(value, str) else list(value)


def as_etcd(value: Any, _folder: SettingsFolder, _key: str) -> Value:
    return f"etcd:{value}"


def as_redis(value: Any, _folder: SettingsFolder, _key: str) -> Value:
    return value if value.startswith("redis+sentinel:") else f"redis:{value}"


def as_rules_file(value: Any, _folder: SettingsFolder, _key: str) -> Value:
    kind = "yaml" if value.endswith((".yaml", ".yml")) else "toml"
    return f"{kind}:{os.path.abspath(value)}"


def in_a_file(value: Any, folder: SettingsFolder, key: str) -> Value:
    return folder.write(key, value)


def as_environment(value: Any, folder: SettingsFolder, key: str) -> Value:
    for name, text in value.items():
        if "\n" in f"{name}{text}" or "=" in name or not name or name.startswith("#"):
            raise ValueError(f"traefik_env: {name!r} can't be a variable of one line")
    return folder.write(key, "".join(f"{name}={text}\n" for name, text in value.items()))


@dataclass(frozen=True)
class Key:
    """A key of the settings file, and how the trait's value is written there."""

    name: str
    form: Callable[[Any, SettingsFolder, str], Value] = as_it_is
    #: Whether the trait's default is written, too.
    always: bool = False


@dataclass(frozen=True)
class More:
    """More static and dynamic configuration for Traefik, which the trait asks for."""

    static: Callable[[Proxy], Mapping[str, Any]] = field(default=lambda _: {})
    dynamic: Callable[[Proxy], Mapping[str, Any]] = field(default=lambda _: {})


def api_entrypoint(proxy: Proxy) -> dict[str, Any]:
    """Traefik's API where the user wants it. ``chp`` has one of its own beside it."""
    url = urlparse(proxy.traefik_api_url)
    is_https = url.scheme == "https"
    port = url.port or (443 if is_https else 80)
    entrypoint: dict[str, Any] = {"address": f"{url.netloc.removesuffix(f':{url.port}')}:{port}"}
    if is_https:
        entrypoint["http"] = {"tls": {}}
    return {"entryPoints": {proxy.traefik_api_entrypoint: entrypoint}}


def api_router(proxy: Proxy) -> dict[str, Any]:
    password = proxy.traefik_api_hashed_password
    if not password:
        digest = hashlib.sha1(proxy.traefik_api_password.encode(), usedforsecurity=False).digest()
        password = "{SHA}" + base64.b64encode(digest).decode()
    user = f"{proxy.traefik_api_username or 'jupyterhub'}:{password}"
    router = {
        "rule": "PathPrefix(`/`)",
        "entryPoints": [proxy.traefik_api_entrypoint],
        "service": "api@internal",
        "middlewares": ["hub-api-users"],
    }
    return {
        "http": {
            "routers": {"hub-api": router},
            "middlewares": {"hub-api-users": {"basicAuth": {"users": [user]}}},
        }
    }


def has_api_password(proxy: Proxy) -> bool:
    if proxy.is_external:
        # The program reads the variable, too.
        return bool(proxy.traefik_api_password or os.environ.get("TRAEFIK_API_PASSWORD"))
    return bool(proxy.traefik_api_password or proxy.traefik_api_hashed_password)


def certificate(proxy: Proxy) -> dict[str, Any]:
    """JupyterHub's certificate as Traefik's default one. Traefik reads the files itself."""
    files = {"certFile": os.path.abspath(proxy.ssl_cert), "keyFile": os.path.abspath(proxy.ssl_key)}
    return {"tls": {"stores": {"default": {"defaultCertificate": files}}}}


# These have an effect only beside a password.
API = More(static=api_entrypoint, dynamic=api_router)
API_USER = Key("api-user")
NO_PASSWORD = "`traefik_api_password` is not set"

INSECURE = Key("api-insecure", as_opposite)
THIRTY_SECONDS = "a change may take 30 seconds"
NOT_OF_OTHERS = "JupyterHub starts one Traefik; with `should_start = False` there may be several"
PRIVATE_FILE = "Traefik's static configuration is a private file, which is gone when Traefik has ended"
OF_OTHERS = "whoever starts Traefik writes its static configuration"
NOT_OURS = "Traefik is started by others"

#: Each trait: what becomes of it for a Traefik that ``chp`` starts, and for one that others run. A text says why
#: it has no effect.
TABLE: dict[str, tuple[Key | More | str, Key | More | str]] = {
    "dynamic_config_file": (Key("backend", as_rules_file, always=True),) * 2,
    "etcd_url": (Key("backend", as_etcd, always=True),) * 2,
    "etcd_username": (Key("etcd-user"),) * 2,
    "etcd_password": (Key("etcd-password-file", in_a_file),) * 2,
    "etcd_insecure_skip_verify": (Key("etcd-insecure"),) * 2,
    "etcd_client_ca_cert": (Key("etcd-ca-file", as_path),) * 2,
    "etcd_client_cert_crt": (Key("etcd-cert-file", as_path),) * 2,
    "etcd_client_cert_key": (Key("etcd-key-file", as_path),) * 2,
    "redis_url": (Key("backend", as_redis, always=True),) * 2,
    "redis_username": (Key("redis-user"),) * 2,
    "redis_password": (Key("redis-password-file", in_a_file),) * 2,
    "redis_client_ca_cert": (Key("redis-ca-file", as_path),) * 2,
    "redis_client_cert_crt": (Key("redis-cert-file", as_path),) * 2,
    "redis_client_cert_key": (Key("redis-key-file", as_path),) * 2,
    "redis_change_list": (Key("redis-change-list"),) * 2,
    "redis_replicas": (Key("redis-replicas"),) * 2,
    "grpc_options": ("etcd is asked through its JSON gateway, not by gRPC",) * 2,
    "kv_traefik_prefix": (Key("traefik-prefix"),) * 2,
    "kv_jupyterhub_prefix": (Key("jupyterhub-prefix"),) * 2,
    "kv_separator": ("Traefik separates keys by slashes",) * 2,
    "traefik_entrypoint": (Key("entrypoint"),) * 2,
    "traefik_api_entrypoint": (API, Key("api-entrypoint")),
    "traefik_api_url": (API, Key("api-url", as_list, always=True)),
    "traefik_api_urls": (NOT_OF_OTHERS, Key("api-url", as_list)),
    "traefik_quorum": (NOT_OF_OTHERS, Key("quorum")),
    "traefik_api_username": (API, API_USER),
    "traefik_api_password": (API, Key("api-password-file", in_a_file)),
    "traefik_api_hashed_password": (API, "the hash of traefik_api_password is stored where an API has no router"),
    "traefik_api_validate_cert": ("the API of a Traefik that is started is asked over loopback", INSECURE),
    "check_route_timeout": (THIRTY_SECONDS,) * 2,
    "enable_setup_dynamic_config": (
        "a Traefik that is started is always set up",
        "a router for Traefik's API is stored only where it has none",
    ),
    "static_config_file": (PRIVATE_FILE, OF_OTHERS),
    "traefik_providers_throttle_duration": (
        More(static=lambda proxy: {"providers": {"providersThrottleDuration": proxy.traefik_providers_throttle_duration}}),
        OF_OTHERS,
    ),
    "traefik_log_level": (More(static=lambda proxy: {"log": {"level": proxy.traefik_log_level}}), OF_OTHERS),
    "traefik_env": (Key("traefik-env-file", as_environment), NOT_OURS),
    # JupyterHub gives its certificate to a `chp` that starts Traefik.
    "ssl_cert": (More(), More(dynamic=certificate)),
    # What the user writes comes last: it wins.
    "extra_static_config": (More(static=lambda proxy: proxy.extra_static_config), OF_OTHERS),
    "extra_dynamic_config": (More(dynamic=lambda proxy: proxy.extra_dynamic_config),) * 2,
}

#: The files beside the settings file.
FILES = [
    "etcd-password-file",
    "redis-password-file",
    "api-password-file",
    "traefik-env-file",
    "extra-static-config.yaml",
    "extra-dynamic-config.yaml",
]


def write(proxy: Proxy, folder: SettingsFolder) -> tuple[list[str], list[str]]:
    """Writes the settings file, and the files beside it.

    :returns: the options for ``traefik-router chp``, and what to say about traits that have no effect.
    """
    folder.clear()
    settings: dict[str, Value] = {}
    static: dict[str, Any] = {}
    dynamic: dict[str, Any] = {}
    if proxy.is_external:
        settings["external"] = True
        if urlparse(proxy.public_url).scheme == "https":
            # What jupyterhub-traefik-proxy calls it.
            settings["entrypoint"] = "https"
    remarks = []
    traits = proxy.traits()
    for name, outcomes in TABLE.items():
        if name not in traits:
            continue
        value = getattr(proxy, name)
        outcome = outcomes[1 if proxy.is_external else 0]
        always = isinstance(outcome, Key) and outcome.always
        if value == traits[name].default(proxy) and not always:
            continue
        if outcome in (API, API_USER) and not has_api_password(proxy):
            outcome = NO_PASSWORD
        if isinstance(outcome, str):
            remarks.append(f"{type(proxy).__name__}.{name} has no effect: {outcome}")
        elif isinstance(outcome, Key):
            settings[outcome.name] = outcome.form(value, folder, outcome.name)
        else:
            lay_over(static, outcome.static(proxy))
            lay_over(dynamic, outcome.dynamic(proxy))
    options = ["--config", folder.write(SettingsFolder.MAIN, toml(settings))]
    for option, config in ("extra-static-config", static), ("extra-dynamic-config", dynamic):
        if config:
            # JSON is YAML.
            options += [f"--{option}", folder.write(f"{option}.yaml", json.dumps(config))]
    return options, remarks


def lay_over(base: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Maps are merged, and anything else in ``more`` wins."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            below = base.get(key)
            base[key] = below = dict(below) if isinstance(below, Mapping) else {}
            lay_over(below, value)
        else:
            base[key] = value


def toml(settings: Mapping[str, Value]) -> str:
    """A flat TOML document. JSON writes texts, numbers and lists as TOML does, but for one character."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in settings.items()]
    return "".join(lines).replace("\x7f", "\\u007f")
