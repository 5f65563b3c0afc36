"""What runs in a task of an app: an HTTP server that says by which port it was reached."""

import http.server
import threading


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(self.server.server_port).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Task(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int):
        super().__init__(("127.0.0.1", port), _Answers)
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()
