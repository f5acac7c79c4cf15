"""Takes configurable-http-proxy's place for JupyterHub's tests: starts a Traefik on the port of --port, and attaches
traefik-router to it. Both end together.
"""

import os
import signal
import subprocess
import sys
import tempfile

from programs import PASSWORD, Traefik

arguments = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with tempfile.TemporaryDirectory() as folder:
    port = int(arguments[arguments.index("--port") + 1])
    traefik = Traefik(f"{folder}/traefik", "push", port)
    try:
        command = ["traefik-router", "chp", *arguments, "--api-url", traefik.api_url]
        proxy = subprocess.Popen(command, env=os.environ | {"TRAEFIK_API_PASSWORD": PASSWORD})
        signal.signal(signal.SIGTERM, lambda *_: proxy.terminate())
        code = proxy.wait()
    finally:
        traefik.kill()
sys.exit(code)
