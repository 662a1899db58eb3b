import concurrent.futures
import http.server
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.request

from shop.store import Store


def square(number):
    return number * number


class Work(unittest.TestCase):
    def test_database_on_disk(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "stock.db")
            Store(path).add("pear", 2)
            store = Store(path)
            store.add("pear", 1)
            self.assertEqual(store.count("pear"), 3)

    def test_unnamed_temporary_file(self):
        with tempfile.TemporaryFile() as file:
            file.write(b"text")
            file.seek(0)
            self.assertEqual(file.read(), b"text")

    def test_subprocess(self):
        output = subprocess.check_output([sys.executable, "-c", "print(6 * 7)"], text=True)
        self.assertEqual(output, "42\n")

    def test_shell_pipeline(self):
        output = subprocess.check_output("printf 'b\\na\\n' | sort | head -1", shell=True, text=True)
        self.assertEqual(output, "a\n")

    def test_worker_processes(self):
        with concurrent.futures.ProcessPoolExecutor(2) as pool:
            self.assertEqual(list(pool.map(square, range(5))), [0, 1, 4, 9, 16])

    def test_server_on_loopback(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"served")

            def log_message(self, *_):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            self.assertEqual(opener.open(url, timeout=30).read(), b"served")
            server.shutdown()

    def test_files_in_the_project(self):
        path = pathlib.Path("notes/today.txt")
        path.parent.mkdir()
        path.write_text("text")
        path.chmod(0o600)
        path.rename("notes/yesterday.txt")
        os.symlink("yesterday.txt", "notes/latest.txt")
        self.assertEqual(pathlib.Path("notes/latest.txt").read_text(), "text")
        for name in os.listdir("notes"):
            os.unlink(os.path.join("notes", name))
        path.parent.rmdir()


if __name__ == "__main__":
    unittest.main()
