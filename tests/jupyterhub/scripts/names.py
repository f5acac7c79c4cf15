"""Users and servers with awkward names: each is reached by every form of its path, and no other."""

import http.client
import sys
from pathlib import Path
from urllib.parse import quote

from hub import jupyterhub, wait_for

NAMES = [f"x{one}y" for one in "!#$%&'()*+,:;=?@[]~` "] + ["xüy", "x秀y", "x%40y", "x%2fy"]
# JupyterHub lets no user name have a slash, and a server's name be letters, digits and hyphens.
NAMED = ["x#y", "x@y", "x y", "x;y", "xüy"]


def main():
    server = str(Path(__file__).with_name("server.py"))
    with jupyterhub(f"c.Spawner.cmd = [{sys.executable!r}, {server!r}]") as hub:
        paths = [start(hub, name, "") for name in NAMES]
        paths += [start(hub, name, "lab") for name in NAMED]
        missed = [
            f"{form} of {prefix!r}: {path} answered {status} {body!r}"
            for parts, prefix in paths
            for form, path in forms(parts).items()
            for status, body in [get(hub, path)]
            if (status, body) != (200, prefix)
        ]
    print(f"  {len(paths)} servers, {len(missed)} forms of their paths that do not reach them")
    for line in missed:
        print(f"    {line}")
    # A form that configurable-http-proxy does not serve either is told, and no failure.
    sys.exit(any(line.startswith("JupyterHub's") for line in missed))


def start(hub, user, server):
    """Starts a server; its names and the prefix that JupyterHub gives it."""
    path = f"/users/{quote(user, safe='')}"
    hub.api("POST", path)
    start = f"{path}/servers/{quote(server, safe='')}" if server else f"{path}/server"
    status, said = hub.api("POST", start)
    assert status in (201, 202), f"{user!r} {server!r}: {status} {said}"
    servers = lambda: hub.api("GET", path)[1]["servers"]
    wait_for(f"{user!r} {server!r}", lambda: servers().get(server, {}).get("ready"))
    return [user, server] if server else [user], servers()[server]["url"]


def forms(parts):
    join = lambda safe: "/user/" + "".join(quote(part, safe=safe) + "/" for part in parts)
    return {
        "JupyterHub's form": join("@~"),
        "the form with every byte escaped": "/user/"
        + "".join(every_byte(part) + "/" for part in parts),
        "a browser's form": join("!$&'()*+,:;=@[]~|"),
    }


def every_byte(part):
    return "".join(f"%{byte:02X}" for byte in part.encode())


def get(hub, path):
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


main()
