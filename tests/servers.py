"""Disposable servers to test against: PostgreSQL, an MLflow server, and a proxy between that can fail on request."""

from __future__ import annotations

import http.server
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path


def postgres_programs():
    """Returns the folder of initdb and pg_ctl, or None if PostgreSQL is not installed."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
    return next((folder for folder in folders if all((folder / name).exists() for name in ("initdb", "pg_ctl"))), None)


def missing():
    """Returns one line on why no PostgreSQL can be started here, or None if it can."""
    if postgres_programs() is None:
        return "PostgreSQL's initdb and pg_ctl are neither in /usr/lib/postgresql/*/bin nor on the PATH"
    if os.geteuid() == 0 and not any(entry.pw_name == "postgres" for entry in pwd.getpwall()):
        return "PostgreSQL refuses to run as root, and this machine has no user postgres to run it as"
    return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(call, port, environment, folder=None):
    """Whether the page that a call serves on a port can be reached; it is ended as by Ctrl-C."""
    with subprocess.Popen(
        call, cwd=folder, env=environment, stdout=-3, stderr=-3, start_new_session=True
    ) as child:  # fmt: skip
        try:
            for _ in range(600):
                with socket.socket() as caller:
                    if caller.connect_ex(("127.0.0.1", port)) == 0:
                        return True
                if child.poll() is not None:
                    return False
                time.sleep(0.1)
        finally:
            os.killpg(child.pid, signal.SIGINT)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
    return False


class Postgres:
    """A PostgreSQL server in a temporary folder: `with Postgres() as database: database.url("mlflow")`."""

    def __init__(self):
        self._programs = postgres_programs()
        self._port = free_port()
        # PostgreSQL refuses to run as root, and its user cannot reach pytest's folders.
        self._user = {} if os.geteuid() else {"user": "postgres", "group": "postgres", "extra_groups": []}

    def __enter__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="lanelock-postgres-"))
        if self._user:
            shutil.chown(self._folder, "postgres", "postgres")
        self._run("initdb", "-D", self._folder / "data", "-U", "lanelock", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_):
        self._control("stop", "-m", "immediate")
        shutil.rmtree(self._folder)

    def start(self):
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._control("start", "-o", options, "-l", self._folder / "log")

    def stop(self):
        """Stops it as a power failure would: connections are cut, and it recovers at the next start."""
        self._control("stop", "-m", "immediate")

    def url(self, name):
        """Returns the address of a database, which is created if it is missing."""
        import psycopg

        with psycopg.connect(f"postgresql://lanelock@127.0.0.1:{self._port}/postgres", autocommit=True) as session:
            if session.execute("select 1 from pg_database where datname = %s", [name]).fetchone() is None:
                session.execute(f'create database "{name}"')
        return f"postgresql://lanelock:hidden@127.0.0.1:{self._port}/{name}"

    def _control(self, *arguments):
        self._run("pg_ctl", "-D", self._folder / "data", "-w", *arguments)

    def _run(self, program, *arguments):
        command = [str(self._programs / program), *map(str, arguments)]
        log = self._folder / "programs"  # not a pipe: the server would keep it open
        with log.open("ab") as out:
            done = subprocess.run(command, stdout=out, stderr=out, cwd=self._folder, **self._user)
        assert done.returncode == 0, log.read_text()


class MlflowServer:
    """An `mlflow server` on a database, with proxied artifacts, in a process group of its own that can be killed."""

    def __init__(self, store, folder):
        self._store, self._folder, self._port = store, folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process = None

    def start(self):
        """Starts the server unless it is running."""
        if self._process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self._store, "--workers", "1"]
        command += ["--artifacts-destination", str(self._folder / "artifacts"), "--host", "127.0.0.1"]
        log = (self._folder / "mlflow-server.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port)],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        until = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < until, log.name
            time.sleep(0.1)

    def kill(self):
        """Kills the server and its workers with SIGKILL."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def _answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False


class Wire:
    """A proxy in front of a server. `fault(method, path, nth)` decides on each request: None passes it on, "lose"
    executes it and drops the answer, "cut" drops the request, an int answers with that status."""

    def __init__(self, server):
        self.fault = lambda method, path, nth: None
        self.seen = []
        wire = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                wire.seen.append((self.command, self.path))
                fault = wire.fault(self.command, self.path, len(wire.seen))
                if fault == "cut":
                    return self._lose()
                try:
                    status, answer = (
                        (fault, b"no") if isinstance(fault, int) else self._forward(server + self.path, body)
                    )
                except OSError:  # the server is down
                    return self._lose()
                if fault == "lose":
                    return self._lose()
                self.send_response(status)
                self.send_header("content-type", "text/plain" if isinstance(fault, int) else "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                return self.wfile.write(answer)

            def _forward(self, url, body):
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
                request = urllib.request.Request(url, body or None, headers, method=self.command)
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        return answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    return error.code, error.read()

            def _lose(self):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def log_message(self, *_):
                pass

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
