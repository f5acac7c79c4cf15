"""JupyterHub's proxy by ``traefik-router chp``: classes that take jupyterhub-traefik-proxy's settings.

>>> c.JupyterHub.proxy_class = "traefik_etcd"  # doctest: +SKIP
"""

from .program import find_program
from .proxies import (
    TKvProxy,
    TraefikEtcdProxy,
    TraefikFileProviderProxy,
    TraefikProxy,
    TraefikRedisProxy,
    TraefikTomlProxy,
)

__all__ = [
    "TKvProxy",
    "TraefikEtcdProxy",
    "TraefikFileProviderProxy",
    "TraefikProxy",
    "TraefikRedisProxy",
    "TraefikTomlProxy",
    "find_program",
]
