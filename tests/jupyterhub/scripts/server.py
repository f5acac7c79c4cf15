"""A user's server that answers with the prefix of its own paths."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        prefix = os.environ["JUPYTERHUB_SERVICE_PREFIX"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(prefix)))
        self.end_headers()
        self.wfile.write(prefix)

    def log_message(self, *_):
        pass

port = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"]).port
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
