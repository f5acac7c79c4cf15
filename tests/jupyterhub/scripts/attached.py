"""JupyterHub on two Traefiks that others run: ATTACHED.py STORE.

Users sign in, open servers and run a kernel. Then the Hub, the program and one of the Traefiks are killed, in
any order. What is open goes on through the Traefik that stays, and all is right soon after.
"""

import asyncio
import http.cookiejar
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from hub import CONFIG, TOKEN, Hub, answers, free_ports, wait_for
from programs import PASSWORD, Kernel, Program, Traefik

MORE = """
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.auth_token = "{proxy_token}"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.last_activity_interval = {check}
c.JupyterHub.load_roles[0]["scopes"] += ["access:servers"]
"""
# JupyterHub compares the routes with what it wants this often, in seconds.
CHECK = 5
PROXY_TOKEN = "of-the-proxy"


def get(url, headers={}):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Watch:
    """Asks for the open servers all the time, through the Traefiks that should answer."""

    def __init__(self, traefiks, users):
        self.traefiks, self.users = list(traefiks), list(users)
        self.wrong, self.asked, self.ended = [], 0, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended:
            for traefik in list(self.traefiks):
                for user in self.users:
                    self.ask(traefik, user)
            time.sleep(0.02)

    def ask(self, traefik, user):
        try:
            status, body = get(f"{traefik.url}/user/{user}/api")
        except OSError as error:
            status, body = 0, str(error)
        self.asked += 1
        # A Traefik that was killed meanwhile is none that should answer.
        if (status != 200 or "version" not in body) and traefik in self.traefiks:
            self.wrong.append((traefik.name, user, status, body[:200]))

    def end(self):
        self.ended = True
        self.thread.join()


def sign_in(traefik, user):
    """As a browser does it, with the server's page at its end."""
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    browser.open(f"{traefik.url}/hub/login", timeout=60).read()
    xsrf = next(cookie.value for cookie in cookies if cookie.name == "_xsrf")
    form = urllib.parse.urlencode({"username": user, "password": "x", "_xsrf": xsrf}).encode()
    browser.open(f"{traefik.url}/hub/login?next=/hub/home", form, timeout=60).read()
    return browser


def open_server(hub, traefik, user):
    browser = sign_in(traefik, user)
    status, said = hub.api("POST", f"/users/{user}/server")
    assert status in (201, 202), f"{user}: {status} {said}"
    wait_for(user, lambda: hub.api("GET", f"/users/{user}")[1]["servers"].get("", {}).get("ready"), 90)
    # The page leads to the Hub and back, for the cookies that the server wants.
    browser.open(f"{traefik.url}/user/{user}/lab", timeout=60).read()
    answer = browser.open(f"{traefik.url}/user/{user}/api/status", timeout=60)
    assert "kernels" in json.loads(answer.read()), f"{user} is not signed in at the server"


async def main(store):
    seed = random.randrange(1 << 32)
    kind = store.split(":")[0]
    print(f"  {kind}, seed {seed}", flush=True)
    Path(kind).mkdir()
    os.chdir(kind)
    order = ["hub", "chp", "traefik"]
    random.Random(seed).shuffle(order)
    programs, hub = {}, None
    try:
        traefiks = [Traefik(f"traefik{n}", store) for n in (1, 2)]
        programs["traefik"] = traefiks[1]
        programs["first"] = traefiks[0]
        hub_port, api = free_ports(2)
        hub = Hub(traefiks[0].web)
        folder = Path.cwd()
        text = CONFIG.format(url=hub.url, hub=hub_port, api=api, folder=folder, token=TOKEN)
        text += MORE.format(proxy_token=PROXY_TOKEN, check=CHECK)
        Path("jupyterhub_config.py").write_text(text)
        Path("home").mkdir()
        command = ["traefik-router", "chp", "--backend", store, "--quorum", "1", "--api-port", str(api)]
        command += [word for one in traefiks for word in ("--api-url", one.api_url)]
        command += ["--error-target", f"http://127.0.0.1:{hub_port}/hub/error"]
        secrets = {"TRAEFIK_API_PASSWORD": PASSWORD, "CONFIGPROXY_AUTH_TOKEN": PROXY_TOKEN}
        programs["chp"] = Program("chp", command, **secrets)
        programs["hub"] = Program("hub", [sys.executable, "-m", "jupyterhub"])
        wait_for("JupyterHub", lambda: answers(hub))
        users = ["ada", "bob"]
        for traefik, user in zip(traefiks, users):
            open_server(hub, traefik, user)
        kernel = Kernel(traefiks[0].url, "ada")
        await kernel.connect()
        assert await kernel.compute("x = 6; x * 7") == "42"
        watch = Watch(traefiks, users)
        try:
            for n, name in enumerate(order):
                await disturb(name, programs, hub, traefiks, watch, api)
                assert await kernel.compute(f"x + {n}") == str(6 + n), f"after {name}"
            user = "eve"
            open_server(hub, traefiks[1], user)
            right(api, [*users, user], traefiks)
        finally:
            watch.end()
        forget(api, user)
        wait_for("JupyterHub adds the lost route", lambda: is_right(api, [*users, user], traefiks))
        assert not watch.wrong, f"{len(watch.wrong)} of {watch.asked} answers: {watch.wrong[:5]}"
        assert get(f"{traefiks[1].url}/_chp_healthz")[0] == 200
        stop_server(hub, users[0], traefiks)
        print(f"    killed {', '.join(order)}: {watch.asked} answers of open servers, all right")
    except BaseException:
        for log in sorted(Path.cwd().glob("*.log")):
            print(f"---- {log.name}\n{log.read_text()[-4000:]}", file=sys.stderr)
        raise
    finally:
        for user in ["ada", "bob", "eve"]:
            try:
                hub.api("DELETE", f"/users/{user}/server")
            except (AttributeError, OSError):
                pass
        for program in programs.values():
            program.kill()


async def disturb(name, programs, hub, traefiks, watch, api):
    """Kills a program, starts it again a moment later, and waits until all is right."""
    program = programs[name]
    if program in watch.traefiks:
        watch.traefiks.remove(program)
    program.kill()
    time.sleep(1)
    program.start()
    begun = time.monotonic()
    wait_for(f"JupyterHub after {name} was killed", lambda: answers(hub))
    wait_for(f"all after {name} was killed", lambda: is_right(api, watch.users, traefiks))
    print(f"    {name}: all is right {time.monotonic() - begun:.1f} s after its start")
    watch.traefiks[:] = traefiks


def is_right(api, users, traefiks):
    try:
        right(api, users, traefiks)
    except (AssertionError, OSError):
        return False
    return True


def right(api, users, traefiks):
    """The table has the routes that it should have, and each Traefik serves them."""
    status, body = get(f"http://127.0.0.1:{api}/api/routes", {"Authorization": f"token {PROXY_TOKEN}"})
    assert status == 200, body
    wanted = sorted(["/", *(f"/user/{user}" for user in users)])
    assert sorted(json.loads(body)) == wanted, body
    for traefik in traefiks:
        for user in users:
            status, body = get(f"{traefik.url}/user/{user}/api")
            assert status == 200 and "version" in body, (traefik.name, user, status, body)


def forget(api, user):
    """Deletes a route behind JupyterHub's back."""
    url = f"http://127.0.0.1:{api}/api/routes/user/{user}"
    headers = {"Authorization": f"token {PROXY_TOKEN}"}
    urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="DELETE"), timeout=60)


def stop_server(hub, user, traefiks):
    """A stopped server's path leads to the Hub again, on both."""
    status, said = hub.api("DELETE", f"/users/{user}/server")
    assert status in (202, 204), said
    gone = lambda one: "version" not in get(f"{one.url}/user/{user}/api")[1]
    wait_for("its route is gone", lambda: all(gone(one) for one in traefiks))


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
asyncio.run(main(sys.argv[1]))
