"""DoPut and DoGet of Quarry beside a plain pyarrow Flight server, in one run.

Both get the same table from the same client, in turns; the medians of the rounds are
compared. Prints one Markdown table and our peak memory while ten million rows stream in.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.flight as flight

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "harness/python"))
import quarry_server  # noqa: E402
import tables  # noqa: E402

STREAMED_ROWS = 10_000_000
MEMORY_MAX_BYTES = 1_500_000_000
BATCH_ROWS = 65_536
# A table that is read so often is hot: ours decodes it for the first reads.
AGAIN = 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the release binary")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    parser.add_argument("--split", action="store_true", help="a process for each role")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rows, chosen.rounds = min(chosen.rows, 100_000), 2
    return chosen


class Peer:
    """The plain pyarrow server, in a process of its own."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, HERE / "peer.py"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True,
        )
        self.client = flight.connect(self.process.stdout.readline().strip())
        self.options = flight.FlightCallOptions()

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Ours:
    """A Quarry with an empty data directory."""

    def __init__(self, binary, split):
        self.server = quarry_server.Server(split=split, executable=binary)
        self.server.cli("namespaces", "create", "bench")
        self.client = flight.connect(self.server.flight)
        header = (b"authorization", f"Bearer {self.server.token}".encode())
        self.options = flight.FlightCallOptions(headers=[header])
        self.writer_role = "item-store" if split else "all"

    def drop(self, name):
        self.server.cli("datasets", "delete", f"bench/{name}")

    def pid(self):
        return self.server.pid(self.writer_role)

    def stop(self):
        self.server.stop()


def put(side, name, table):
    """Seconds until the server has acknowledged the table."""
    descriptor = flight.FlightDescriptor.for_path("bench", name)
    begin = time.perf_counter()
    writer, reader = side.client.do_put(descriptor, table.schema, side.options)
    for batch in table.to_batches():
        writer.write_batch(batch)
    writer.done_writing()
    while reader.read() is not None:
        pass
    writer.close()
    return time.perf_counter() - begin


def get(side, name, rows):
    """Seconds until the client holds the table: every endpoint, one after another."""
    descriptor = flight.FlightDescriptor.for_path("bench", name)
    begin = time.perf_counter()
    info = side.client.get_flight_info(descriptor, side.options)
    got = 0
    for endpoint in info.endpoints:
        got += len(side.client.do_get(endpoint.ticket, side.options).read_all())
    took = time.perf_counter() - begin
    assert got == rows, f"{got} rows of {rows}"
    return took


def turns(peer, ours, table, rounds):
    """Seconds of each operation of each side, in turns, the first round thrown away."""
    times = {(op, side): [] for op in ("put", "get", "again") for side in ("peer", "ours")}
    for turn in range(rounds + 1):
        sides = [("peer", peer), ("ours", ours)]
        for label, side in sides if turn % 2 else reversed(sides):
            name = f"turn-{turn}"
            took = [put(side, name, table), *(get(side, name, len(table)) for _ in range(1 + AGAIN))]
            if turn:
                times["put", label].append(took[0])
                times["get", label].append(took[1])
                times["again", label].append(took[-1])
        ours.drop(f"turn-{turn}")
    return {key: statistics.median(values) for key, values in times.items()}


def stream_in(ours, rows):
    """Streams rows into one version without holding them; peak memory in bytes and seconds."""
    quarry_server.reset_memory_peak(ours.pid())
    descriptor = flight.FlightDescriptor.for_path("bench", "streamed")
    writer, reader = ours.client.do_put(descriptor, tables.SCHEMA, ours.options)
    begin = time.perf_counter()
    for start in range(0, rows, BATCH_ROWS):
        writer.write_batch(tables.rows(start, min(start + BATCH_ROWS, rows)))
    writer.done_writing()
    while reader.read() is not None:
        pass
    writer.close()
    took = time.perf_counter() - begin
    assert ours.server.json("items", "count", "bench/streamed")["count"] == rows
    return quarry_server.memory_peak_bytes(ours.pid()), took


def stream_out(ours, rows):
    """Reads the same rows without keeping them; peak memory in bytes."""
    quarry_server.reset_memory_peak(ours.pid())
    info = ours.client.get_flight_info(
        flight.FlightDescriptor.for_path("bench", "streamed"), ours.options)
    got = 0
    for endpoint in info.endpoints:
        reader = ours.client.do_get(endpoint.ticket, ours.options)
        got += sum(len(chunk.data) for chunk in reader)
    assert got == rows
    return quarry_server.memory_peak_bytes(ours.pid())


def commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip() or "unknown"


def report(chosen, table, times, peaks, streamed):
    cores, where = os.cpu_count(), "split" if chosen.split else "one process"
    print(f"\nflight, {where}, {chosen.rounds} rounds in turns, medians; "
          f"pyarrow {pa.__version__} as client and peer\n")
    print("| op | rows | bytes | peer GB/s | ours GB/s | ratio | peak RSS | commit | cores |")
    print("|---|---|---|---|---|---|---|---|---|")
    for op, label, peak in [("put", "DoPut", peaks[0]), ("get", "DoGet", peaks[1]),
                            ("again", "DoGet of a hot table", peaks[1])]:
        speed = {side: table.nbytes / times[op, side] / 1e9 for side in ("peer", "ours")}
        print(f"| {label} | {len(table):,} | {table.nbytes:,} | {speed['peer']:.2f} | "
              f"{speed['ours']:.2f} | {speed['ours'] / speed['peer']:.2f}× | {peak / 1e6:,.0f} MB "
              f"| {commit()} | {cores} |")
    rows, took = streamed
    print(f"\nPeak RSS while {rows:,} rows stream in ({took:.0f} s, {rows / took / 1e3:,.0f}k rows/s)"
          f": {peaks[0] / 1e6:,.0f} MB; while they stream out: {peaks[1] / 1e6:,.0f} MB; "
          f"limit {MEMORY_MAX_BYTES / 1e6:,.0f} MB")


def main():
    chosen = arguments()
    table = tables.table(chosen.rows, BATCH_ROWS)
    streamed_rows = 300_000 if chosen.quick else STREAMED_ROWS
    peer, ours = Peer(), Ours(chosen.binary, chosen.split)
    try:
        times = turns(peer, ours, table, chosen.rounds)
        peer.stop()
        # Memory is that of a fresh process: the tables before are kept, as far as they may be.
        ours.stop()
        ours = Ours(chosen.binary, chosen.split)
        peak_in, took = stream_in(ours, streamed_rows)
        peaks = (peak_in, stream_out(ours, streamed_rows))
    finally:
        peer.stop()
        ours.stop()
    report(chosen, table, times, peaks, (streamed_rows, took))
    if max(peaks) > MEMORY_MAX_BYTES:
        sys.exit(f"peak RSS {max(peaks):,} is above {MEMORY_MAX_BYTES:,} bytes")


if __name__ == "__main__":
    main()
