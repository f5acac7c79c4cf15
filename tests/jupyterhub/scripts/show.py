"""Signs in, opens a server and runs a notebook in headless Chromium: SHOW.py PICTURE BOTH.

JupyterHub uses two Traefiks that others run. The first picture shows the notebook through the first one. BOTH
shows beside it the same notebook through the second one, after the first was killed.
"""

import base64
import json
import os
import shutil
import sys
from pathlib import Path

from hub import jupyterhub
from playwright.sync_api import expect, sync_playwright
from programs import PASSWORD, Traefik

CONFIG = """
c.ConfigurableHTTPProxy.command = ["traefik-router", "chp", "--quorum", "1"]
c.ConfigurableHTTPProxy.command += ["--api-url", "{first}", "--api-url", "{second}"]
c.Spawner.default_url = "/lab/tree/welcome.ipynb"
"""

NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# JupyterHub on Traefik"},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "source": "1 + 1",
            "execution_count": None,
            "outputs": [],
        },
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}

# No question in front of the picture.
SETTINGS = ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
QUIET = {"fetchNews": "false", "checkForUpdates": False}

# What a browser does of its own accord is not wanted here.
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]

BOTH = """<style>
body {{ margin: 12px; display: flex; gap: 12px; font: 18px sans-serif; background: white; }}
figure {{ margin: 0; flex: 1; }}
img {{ width: 100%; border: 1px solid #bbb; margin-top: 8px; }}
</style>{}"""


def main():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("Chromium is needed; on Debian: apt-get install chromium")
    # The proxy that JupyterHub starts gets it.
    os.environ["TRAEFIK_API_PASSWORD"] = PASSWORD
    traefiks = [Traefik(f"traefik{n}", "push") for n in (1, 2)]
    first, second = traefiks
    config = CONFIG.format(first=first.api_url, second=second.api_url)
    try:
        with jupyterhub(config, first.web), sync_playwright() as playwright:
            write("welcome.ipynb", NOTEBOOK)
            write(SETTINGS, QUIET)
            browser = playwright.chromium.launch(
                executable_path=chromium, args=FLAGS, chromium_sandbox=False
            )
            page = browser.new_page(viewport={"width": 1100, "height": 620})
            page.set_default_timeout(90_000)
            sockets = []
            page.on("websocket", lambda socket: sockets.append(socket.url))
            page.goto(first.url)
            page.fill("#username_input", "ada")
            page.fill("#password_input", "lovelace")
            page.click("#login_submit")
            calculate(page)
            page.screenshot(path=sys.argv[1])
            before = page.screenshot()
            first.kill()
            page.goto(f"{second.url}/user/ada/lab/tree/welcome.ipynb")
            calculate(page)
            pictures = [
                (f"{first.url}, the first Traefik", before),
                (f"{second.url}, the second one, after the first was killed", page.screenshot()),
            ]
            both = browser.new_page(viewport={"width": 1500, "height": 100}, device_scale_factor=1)
            both.set_content(BOTH.format("".join(map(figure, pictures))))
            both.screenshot(path=sys.argv[2], full_page=True)
            browser.close()
    finally:
        for traefik in traefiks:
            traefik.kill()
    for traefik in traefiks:
        kernels = f"{traefik.url.replace('http', 'ws', 1)}/user/ada/api/kernels/"
        assert any(url.startswith(kernels) for url in sockets), f"no kernel's WebSocket among {sockets}"
    print("  signed in, ran 1 + 1 through the first Traefik, and through the second without the first")
    for picture in sys.argv[1:]:
        print(f"  {picture}, {Path(picture).stat().st_size // 1000} kB")


def calculate(page):
    page.wait_for_url("**/user/ada/lab/**")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    expect(cell.locator(".jp-OutputArea-output")).to_have_text("2", timeout=90_000)


def figure(picture):
    caption, image = picture
    image = base64.b64encode(image).decode()
    return f'<figure><figcaption>{caption}</figcaption><img src="data:image/png;base64,{image}"></figure>'


def write(name, content):
    path = Path("home") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


main()
