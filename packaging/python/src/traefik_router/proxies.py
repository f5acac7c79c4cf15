"""JupyterHub's proxy by ``traefik-router chp``, with the traits that jupyterhub-traefik-proxy documents."""

from __future__ import annotations

import typing as t
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlparse

from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets import Any, Bool, Dict, Integer, List, TraitError, Unicode, default, observe, validate

from .program import find_program
from .settings import SettingsFolder, write

#: It registers the same documented names of proxies as we do.
PEER = "jupyterhub-traefik-proxy"


#: The arguments of an etcd client for Python, and our traits.
ETCD_ARGUMENTS = {
    "ca_cert": "etcd_client_ca_cert",
    "cert_cert": "etcd_client_cert_crt",
    "cert_key": "etcd_client_cert_key",
    "user": "etcd_username",
    "password": "etcd_password",
}

#: The same for a client for Redis.
REDIS_ARGUMENTS = {
    "ssl_ca_certs": "redis_client_ca_cert",
    "ssl_certfile": "redis_client_cert_crt",
    "ssl_keyfile": "redis_client_cert_key",
    "username": "redis_username",
    "password": "redis_password",
}


class TraefikProxy(ConfigurableHTTPProxy):  # type: ignore[misc]
    """Routes in the memory of ``traefik-router chp``, which sends them to Traefik.

    JupyterHub starts ``chp`` and speaks to it as to configurable-http-proxy. With ``should_start = True``, the
    default, ``chp`` starts Traefik. With ``should_start = False`` Traefik is run by others, and ``chp`` works with
    it: set ``traefik_api_url`` and ``traefik_api_password``.
    """

    # JupyterHub's.
    command: t.Any
    public_url: t.Any
    ssl_cert: t.Any
    ssl_key: t.Any

    settings_folder = Unicode(
        "jupyterhub-traefik-router",
        config=True,
        help="""The folder for the settings of traefik-router, with passwords. It has mode 0700.

        Our files in it are removed when the proxy is stopped.
        """,
    )
    static_config_file = Unicode("traefik.toml", config=True, help="Has no effect.")
    extra_static_config = Dict(
        config=True,
        help="""More static configuration for a Traefik that is started, merged over the program's.

        Has no effect where `should_start` is False.
        """,
    )
    extra_dynamic_config = Dict(
        config=True,
        help="""More dynamic configuration for a Traefik that is started, merged over the program's.

        Names in it end in `@file`.
        """,
    )
    enable_setup_dynamic_config = Bool(
        True,
        config=True,
        help="""Whether a router for Traefik's API is stored, if a Traefik that others run has none.""",
    )
    traefik_providers_throttle_duration = Unicode(
        "0s",
        config=True,
        help="""How long Traefik waits after a change before it takes the next one, as Traefik has it: `2s`.""",
    )
    traefik_api_url = Unicode(
        "http://localhost:8099",
        config=True,
        help="""Where Traefik's API is.

        A Traefik that is started has its API there if `traefik_api_password` is set.
        """,
    )
    traefik_api_urls = List(
        Unicode(),
        config=True,
        help="""Where the APIs of several Traefiks are that others run. Defaults to `traefik_api_url` alone.""",
    )
    traefik_quorum = Integer(
        0,
        min=0,
        config=True,
        help="""How many of several Traefiks have to serve a change. Defaults to 0, which means all.""",
    )
    traefik_api_validate_cert = Bool(
        True,
        config=True,
        help="""Whether the certificate of Traefik's API is checked.""",
    )
    traefik_log_level = Unicode(config=True, help="""What Traefik logs. Defaults to `ERROR`.""")
    traefik_api_password = Unicode(config=True, help="""The password for Traefik's API.""")
    traefik_api_username = Unicode(
        config=True, help="""The user name for Traefik's API. Defaults to `jupyterhub`."""
    )
    traefik_api_hashed_password = Unicode(
        config=True,
        help="""The hash of the password, as Traefik's basicAuth takes it. Defaults to a fast hash.""",
    )
    traefik_env = Dict(
        Unicode(),
        config=True,
        help="""Environment variables for a Traefik that is started.""",
    )
    traefik_entrypoint = Unicode(
        config=True,
        help="""The entrypoint of the routes. Defaults to the stored one, else to `http` or `https`.""",
    )
    traefik_api_entrypoint = Unicode(
        "auth_api",
        config=True,
        help="""The entrypoint of Traefik's API.""",
    )
    check_route_timeout = Integer(
        30, config=True, help="""How many seconds Traefik may take to serve a change."""
    )
    toml_static_config_file = Unicode(config=True, help="Older name of static_config_file.")

    #: Older names of traits.
    older_names = {"toml_static_config_file": "static_config_file"}

    #: Whether Traefik is run by others. `chp` is run by JupyterHub then, too.
    is_external = False

    #: The command without our options, once it was started.
    _own_command: list[str] | None = None

    def __init__(self, **kwargs: t.Any) -> None:
        self.observe(self._older_name_is_set, list(self.older_names))
        super().__init__(**kwargs)
        try:
            other = version(PEER)
        except PackageNotFoundError:
            return
        self.log.warning(
            "%s %s is installed beside traefik-router, and both register the proxies traefik_file, "
            "traefik_etcd and traefik_redis: uninstall it, or choose traefik_router_file, "
            "traefik_router_etcd and traefik_router_redis. "
            "This proxy is %s.%s.",
            PEER,
            other,
            type(self).__module__.partition(".")[0],
            type(self).__name__,
        )

    @validate("should_start")
    def _should_start_is_about_traefik(self, proposal: t.Any) -> bool:
        """With our own classes the documented `should_start` is about Traefik: there is `chp` to start anyhow.

        Set on JupyterHub's classes, it is about `chp`, as it is for JupyterHub.
        """
        if proposal.value:
            return True
        ours = [one.__name__ for one in type(self).__mro__ if issubclass(one, TraefikProxy)]
        self.is_external = any("should_start" in self.config.get(name, {}) for name in ours)
        return self.is_external

    @validate("traefik_api_url", "traefik_api_urls")
    def _api_has_an_address(self, proposal: t.Any) -> t.Any:
        """Without a scheme or a host, Traefik would listen on all addresses."""
        urls = [proposal.value] if isinstance(proposal.value, str) else proposal.value
        for url in urls:
            parts = urlparse(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                name = f"{type(self).__name__}.{proposal.trait.name}"
                raise TraitError(f"{name}: {url!r} is no URL of Traefik's API, such as http://localhost:8099")
        return proposal.value

    @default("command")
    def _default_command(self) -> list[str]:
        return [find_program(), "chp"]

    def _set_client_arguments(self, trait: str, arguments: dict[str, t.Any], known: dict[str, str]) -> None:
        """Sets what the arguments of a client for Python say."""
        for name, value in arguments.items():
            if name in known:
                setattr(self, known[name], value)
            else:
                self.log.warning("%s.%s: %s has no effect", type(self).__name__, trait, name)

    def _older_name_is_set(self, change: t.Any) -> None:
        name = self.older_names[change.name]
        self.log.warning("%s.%s is called %s now", type(self).__name__, change.name, name)
        setattr(self, name, change.new)

    async def start(self) -> None:
        """Writes the settings, and starts ``chp`` with them."""
        folder = SettingsFolder(self.settings_folder)
        options, remarks = write(self, folder)
        if self._own_command is None:
            # It is started again when it has ended.
            self._own_command = list(self.command)
            for remark in remarks:
                self.log.warning(remark)
        self.command = [*self._own_command, *options]
        public = {name: getattr(self, name) for name in ("public_url", "ssl_cert", "ssl_key")}
        if self.is_external:
            # JupyterHub waits for what it starts, and that is the REST API alone.
            self.public_url, self.ssl_cert, self.ssl_key = self.api_url, "", ""
        try:
            await super().start()
        except BaseException:
            folder.remove()
            raise
        finally:
            for name, value in public.items():
                setattr(self, name, value)

    def stop(self) -> None:
        super().stop()
        SettingsFolder(self.settings_folder).remove()


class TraefikFileProviderProxy(TraefikProxy):
    """Routes in a file that Traefik watches."""

    dynamic_config_file = Unicode(
        "rules.toml",
        config=True,
        help="""The file of the routes, `.toml`, `.yaml` or `.yml`.""",
    )


class TraefikTomlProxy(TraefikFileProviderProxy):
    """The older name of :class:`TraefikFileProviderProxy`."""

    toml_dynamic_config_file = Unicode("rules.toml", config=True, help="Older name of dynamic_config_file.")
    older_names = {**TraefikFileProviderProxy.older_names, "toml_dynamic_config_file": "dynamic_config_file"}


class TKvProxy(TraefikProxy):
    """Routes in a key-value store. The settings of both classes below can be set on this one."""

    kv_traefik_prefix = Unicode(
        "traefik", config=True, help="""The prefix of the keys that Traefik reads."""
    )
    kv_jupyterhub_prefix = Unicode(
        "jupyterhub", config=True, help="""The prefix of the keys that only the program reads."""
    )
    kv_separator = Unicode("/", config=True, help="Has no effect: it is a slash.")


class TraefikEtcdProxy(TKvProxy):
    """Routes in etcd."""

    etcd_url = Unicode(
        "http://127.0.0.1:2379",
        config=True,
        help="""The URL of etcd; several URLs of one cluster are separated by commas.""",
    )
    etcd_username = Unicode(config=True, help="""The user of etcd, for us and for a Traefik that is started.""")
    etcd_password = Unicode(config=True, help="""The password of etcd's user.""")
    etcd_client_ca_cert = Unicode(
        None, allow_none=True, config=True, help="""The file of the CA that etcd's certificate is from."""
    )
    etcd_client_cert_crt = Unicode(
        None, allow_none=True, config=True, help="""The file of the certificate to show to etcd."""
    )
    etcd_client_cert_key = Unicode(
        None, allow_none=True, config=True, help="""The file of the private key for it."""
    )
    etcd_client_kwargs = Dict(
        config=True,
        help="""Arguments of an etcd client for Python: `ca_cert`, `cert_cert`, `cert_key`, `user`, `password`.""",
    )
    etcd_insecure_skip_verify = Bool(
        False, config=True, help="""Whether etcd's certificate is not checked."""
    )
    grpc_options = List(Any(), None, allow_none=True, config=True, help="Has no effect: etcd is asked by HTTP.")

    kv_url = Unicode(config=True, help="Older name of etcd_url.")
    kv_username = Unicode(config=True, help="Older name of etcd_username.")
    kv_password = Unicode(config=True, help="Older name of etcd_password.")
    etcd_traefik_prefix = Unicode(config=True, help="Older name of kv_traefik_prefix.")
    etcd_jupyterhub_prefix = Unicode(config=True, help="Older name of kv_jupyterhub_prefix.")

    older_names = {
        **TraefikProxy.older_names,
        "kv_url": "etcd_url",
        "kv_username": "etcd_username",
        "kv_password": "etcd_password",
        "etcd_traefik_prefix": "kv_traefik_prefix",
        "etcd_jupyterhub_prefix": "kv_jupyterhub_prefix",
    }

    @observe("etcd_client_kwargs")
    def _client_arguments_are_set(self, change: t.Any) -> None:
        self._set_client_arguments(change.name, change.new, ETCD_ARGUMENTS)


class TraefikRedisProxy(TKvProxy):
    """Routes in Redis or Valkey."""

    redis_url = Unicode(
        "redis://localhost:6379",
        config=True,
        help="""The URL of Redis, `redis://HOST:PORT/DATABASE`; `rediss://` is for TLS.

        With Sentinel it is `redis+sentinel:MASTER,URL[,URL…]`: the name of the master and the URLs of the Sentinels.
        """,
    )
    redis_username = Unicode(
        config=True,
        help="""The user of Redis, for us and for a Traefik that is started.

        Defaults to `default` where a password is set.
        """,
    )
    redis_password = Unicode(config=True, help="""The password of Redis's user.""")
    redis_client_ca_cert = Unicode(
        None, allow_none=True, config=True, help="""The file of the CA that Redis's certificate is from."""
    )
    redis_client_cert_crt = Unicode(
        None, allow_none=True, config=True, help="""The file of the certificate to show to Redis."""
    )
    redis_client_cert_key = Unicode(
        None, allow_none=True, config=True, help="""The file of the private key for it."""
    )
    redis_change_list = Unicode(
        config=True,
        help="""A key below Traefik's for a list that changes with each commit: one notification a commit.""",
    )
    redis_replicas = Integer(
        0,
        min=0,
        config=True,
        help="""How many replicas of Redis must have a change before it counts as stored.""",
    )
    redis_client_kwargs = Dict(
        config=True,
        help="""Arguments of a Redis client for Python: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `username`,
        `password`.
        """,
    )

    @observe("redis_client_kwargs")
    def _client_arguments_are_set(self, change: t.Any) -> None:
        self._set_client_arguments(change.name, change.new, REDIS_ARGUMENTS)

    @observe("redis_password")
    def _password_is_set(self, change: t.Any) -> None:
        self.redis_username = self.redis_username or "default"
