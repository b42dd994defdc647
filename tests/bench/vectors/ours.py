"""A Quarry of its own, with a space that is loaded from a dataset."""

import os
import pathlib
import signal
import time

import numpy as np
import quarry_server
from door import Door

NAMES = ("bench", "d", "s")


def where(share):
    """The filter that keeps such a share."""
    return f"part < {share * 1_000:g}"


class Ours:
    name = "**quarry**"

    def __init__(self, binary, vectors, section, part):
        self.server = quarry_server.Server(executable=binary)
        self.server.cli("namespaces", "create", NAMES[0])
        self._put(vectors, section, part)
        self.before = self.resident_bytes()
        begin = time.perf_counter()
        size = str(vectors.shape[1])
        self.server.cli("spaces", "create", "/".join(NAMES), "--dimension", size, "--metric", "cosine")
        self.server.cli("vectors", "load", "/".join(NAMES[:2]), "--space", NAMES[2],
                        "--vector-column", "embedding", "--id-column", "id")
        self.build = time.perf_counter() - begin
        self.door = self.connect()

    def _put(self, vectors, section, part):
        import pyarrow as pa
        import pyarrow.flight as flight

        client = flight.connect(self.server.flight)
        token = f"Bearer {self.server.token}".encode()
        options = flight.FlightCallOptions(headers=[(b"authorization", token)])
        writer = None
        for at in range(0, len(vectors), 10_000):
            some = vectors[at : at + 10_000]
            flat = pa.array(some.reshape(-1))
            table = pa.table({
                "id": np.arange(at, at + len(some)),
                "section": section[at : at + len(some)],
                "part": part[at : at + len(some)],
                "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            })
            if writer is None:
                descriptor = flight.FlightDescriptor.for_path(*NAMES[:2])
                writer, _ = client.do_put(descriptor, table.schema, options)
            writer.write_table(table)
        writer.close()

    def connect(self):
        return Door(self.server.address, self.server.token, NAMES)

    def place(self):
        """What a process of its own needs to connect."""
        return self.server.address, self.server.token, NAMES

    def widths(self):
        return [0, 16, 24, 32, 48, 64, 96, 128, 256, 512]

    def prepare(self, query):
        return self.door.prepared(query)

    def search(self, request, k, width):
        return self.door.found(request, width, k=k)

    def filtered(self, request, k, width, share):
        return self.door.found(request, width, where(share), k)

    def cpu_seconds(self):
        """Processor time of the server, user and system."""
        fields = pathlib.Path(f"/proc/{self.server.pid()}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def restart(self):
        """Ends the process and starts it again on its files; when it was started."""
        self.door.close()
        process, _ = self.server.processes.pop("all")
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        (self.server.dir / "all.ready").unlink()
        self.server.variables.pop("QUARRY_NEIGHBOURS__ALL", None)
        begin = time.perf_counter()
        self.server._start("all")
        self.server.address = self.server.processes["all"][1]["listen"]
        self.server.url = f"http://{self.server.address}"
        self.door = self.connect()
        return begin

    def resident_bytes(self):
        for line in open(f"/proc/{self.server.pid()}/status"):
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024

    def stop(self):
        self.door.close()
        self.server.stop()
