"""Signs in, opens a server and runs a notebook in headless Chromium: SHOW.py PICTURE."""

import json
import shutil
import sys
from pathlib import Path

from hub import jupyterhub
from playwright.sync_api import expect, sync_playwright

CONFIG = """
c.ConfigurableHTTPProxy.command = ["traefik-router", "chp"]
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


def main():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("Chromium is needed; on Debian: apt-get install chromium")
    with jupyterhub(CONFIG) as hub, sync_playwright() as playwright:
        write("welcome.ipynb", NOTEBOOK)
        write(SETTINGS, QUIET)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=FLAGS, chromium_sandbox=False
        )
        page = browser.new_page(viewport={"width": 1100, "height": 620})
        page.set_default_timeout(90_000)
        sockets = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.goto(hub.url)
        page.fill("#username_input", "ada")
        page.fill("#password_input", "lovelace")
        page.click("#login_submit")
        page.wait_for_url("**/user/ada/lab/**")
        cell = page.locator(".jp-Notebook .jp-CodeCell").first
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        expect(cell.locator(".jp-OutputArea-output")).to_have_text("2", timeout=90_000)
        kernels = [url for url in sockets if "/user/ada/api/kernels/" in url]
        assert kernels, f"no kernel's WebSocket among {sockets}"
        page.screenshot(path=sys.argv[1])
        browser.close()
    print(f"  signed in, ran 1 + 1 through {kernels[0].split('?')[0]}")
    print(f"  {sys.argv[1]}, {Path(sys.argv[1]).stat().st_size // 1000} kB")


def write(name, content):
    path = Path("home") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


main()
