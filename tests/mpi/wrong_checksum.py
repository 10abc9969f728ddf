"""Under mpirun: download MNIST from a server whose files are something else."""

import gzip
import http.server
import threading

from ddp_numpy import world
from ddp_numpy.data.mnist import download_mnist


class Wrong(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(gzip.compress(b"something else"))

    def log_message(self, *args: object) -> None:
        pass


comm = world()
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wrong) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    comm.on_root(lambda: download_mnist([f"http://127.0.0.1:{server.server_port}/"]))
