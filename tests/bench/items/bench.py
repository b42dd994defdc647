"""Reads of Quarry beside the engines that people use instead, in one run.

Ours is asked over gRPC and Flight on loopback; the peers run inside this process, which is
a handicap of a round trip for us. Every operation runs on all of them in turns, with other
arguments each round; the first rounds are thrown away. Answers are compared with each other.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "harness/python")]
import edits  # noqa: E402
import peers as peers_module  # noqa: E402
import quarry_server  # noqa: E402
from ours import Ours  # noqa: E402
from shelf import Shelf  # noqa: E402

WARM_ROUNDS = 2
# What is quick is asked more often, so that its p50 is of a warm engine and its p99 of a hundred.
ROUNDS_MOST, SECONDS_ENOUGH = 100, 12


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the release binary")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    parser.add_argument("--peers", default=",".join(peers_module.ALL), help="which, with commas; none with ''")
    parser.add_argument("--only", default="", help="operations that hold one of these words")
    parser.add_argument("--read-only", action="store_true", help="no edits after the reads")
    parser.add_argument("--dir", help="where the data is made and kept for the next run")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rows, chosen.rounds = min(chosen.rows, 40_000), 3
    return chosen


class Arguments:
    """What each operation is asked, the same for all in a round."""

    def __init__(self, rows):
        self.rows = rows
        self.random = np.random.default_rng(7)

    def number(self):
        return int(self.random.integers(0, self.rows))

    def near_the_end(self):
        depth = self.random.uniform(0.80, 0.90)
        return min(int(self.rows * depth), self.rows - 200)

    def id(self, number):
        return f"00000000-0000-7000-8000-{number:012d}"

    def external_id(self, number):
        return f"ext-{(number * 2_654_435_761) % 4_294_967_296:010d}"

    def width(self):
        return int(self.random.integers(640, 4_000))

    def height(self):
        return int(self.random.integers(900, 2_000))

    def text(self):
        return f"the bridge, {int(self.random.integers(0, 1_000)):03d}"


# (name, arguments of a round, method, how answers are compared)
OPERATIONS = [
    ("page of 100 by cursor at ~85 %", lambda a: (a.id(a.near_the_end()),), "page_after", "rows"),
    ("page of 100 by position, any depth", lambda a: (min(a.number(), a.rows - 100),), "page_at", "rows"),
    ("find by id", lambda a: (a.id(a.number()),), "by_id", "rows"),
    ("find by external_id", lambda a: (a.external_id(a.number()),), "by_external_id", "rows"),
    ("100 rows at random positions", lambda a: (sorted({a.number() for _ in range(100)}),), "take", "rows"),
    ("count(*)", lambda a: (), "count_all", "equal"),
    ("count width=… AND is_favorite", lambda a: (a.width(),), "count_two", "equal"),
    ("count width>… AND aspect_ratio<…", lambda a: (a.width(), 1.5), "count_range", "equal"),
    ("count height>… AND created_at<…", lambda a: (a.height(), a.near_the_end()), "count_time", "equal"),
    ("count description LIKE '%…%'", lambda a: (a.text(),), "count_text", "equal"),
    ("filtered scan, 5 columns, 1.5 %", lambda a: (a.width(),), "scan", "equal"),
    ("group by tags: count, mean, max", lambda a: (), "group", "equal"),
    ("group by tags where width>…", lambda a: (a.width(),), "group_where", "equal"),
    ("statistics of a column", lambda a: (), "statistics", "equal"),
    ("all rows, all columns, streamed", lambda a: (), "stream", "equal"),
]
# Seconds a round at many rows: fewer rounds say as much.
LONG = {"stream": 3}


def same(kind, name, answers):
    """All who answered must have answered alike."""
    known = {who: answer for who, answer in answers.items() if answer is not None}
    first = next(iter(known.values()))
    for who, answer in known.items():
        if answer != first:
            detail = {who: str(answer)[:200] for who, answer in known.items()}
            raise AssertionError(f"{name}: the answers differ: {detail}")


def run(operation, engines, rows, rounds, rng):
    """Seconds of each engine: {name: [seconds]}, of so many rounds at least."""
    name, arguments_of, method, kind = operation
    able = {who: engine for who, engine in engines.items() if getattr(engine, method, None)}
    times = {who: [] for who in able}
    asked = Arguments(rows)
    rounds = min(rounds, LONG.get(method, rounds))
    begun = time.perf_counter()
    for turn in range(ROUNDS_MOST + WARM_ROUNDS):
        if turn >= rounds + WARM_ROUNDS and time.perf_counter() - begun > SECONDS_ENOUGH:
            break
        arguments = arguments_of(asked)
        prepared = {}
        for who, engine in able.items():
            prepare = getattr(engine, f"prepare_{method}", None)
            prepared[who] = prepare(*arguments) if prepare else arguments
        answers = {}
        order = list(able)
        rng.shuffle(order)
        for who in order:
            begin = time.perf_counter()
            answer = getattr(able[who], method)(*prepared[who])
            took = time.perf_counter() - begin
            answers[who] = able[who].shown(answer) if hasattr(able[who], "shown") else answer
            if turn >= WARM_ROUNDS:
                times[who].append(took)
        same(kind, name, answers)
    return times


def cell(seconds):
    if not seconds:
        return "–"
    p50, p99 = np.percentile(seconds, 50) * 1e3, np.percentile(seconds, 99) * 1e3
    return f"{p50:.2f} / {p99:.1f}"


def commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip() or "unknown"


def row(name, times, ours, others):
    best = min(((np.median(times[who]), who) for who in others if times.get(who)), default=None)
    ratio = f"**{np.median(times[ours]) / best[0]:.2f}×** of {best[1]}" if best else "–"
    cells = [cell(times.get(who)) for who in [*others, ours]]
    return f"| {name} | {' | '.join(cells)} | {ratio} |"


def own_memory():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def main():
    chosen = arguments()
    home = pathlib.Path(chosen.dir) if chosen.dir else pathlib.Path(tempfile.mkdtemp(prefix="items"))
    home.mkdir(parents=True, exist_ok=True)
    shelf = Shelf(home, chosen.rows)
    wanted = [name for name in chosen.peers.split(",") if name]
    ours = None
    try:
        if wanted:
            shelf.make()
        ours = Ours(chosen.binary, shelf)
        ours.load()
        engines = {}
        for name in wanted:
            begin = time.perf_counter()
            engines[name] = peers_module.ALL[name](shelf)
            print(f"{name}: ready in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
        engines["quarry"] = ours
        report(chosen, engines, wanted, ours)
    finally:
        if ours:
            ours.stop()
        if not chosen.read_only:
            shelf.forget_edited()
        if not chosen.dir:
            shutil.rmtree(home, ignore_errors=True)


def report(chosen, engines, wanted, ours):
    rng = np.random.default_rng(1)
    print(f"\nitems: {chosen.rows:,} rows × {len(Shelf.columns())} columns, {chosen.rounds} rounds or more in "
          f"turns, p50 / p99 in ms; ours over gRPC and Flight, peers in process; {os.cpu_count()} "
          f"cores, commit {commit()}\n")
    print(f"| operation | {' | '.join([*wanted, 'quarry'])} | ratio to the best |")
    print("|---" * (len(wanted) + 3) + "|")
    words = [word for word in chosen.only.split(",") if word]
    quiet = {}
    for operation in OPERATIONS:
        if words and not any(word in operation[0] for word in words):
            continue
        times = run(operation, engines, chosen.rows, chosen.rounds, rng)
        quiet[operation[0]] = times["quarry"]
        print(row(operation[0], times, "quarry", wanted), flush=True)
    empty = [ours.empty_call() for _ in range(ROUNDS_MOST)]
    print(f"\nA call that does nothing, over the same connection: {cell(empty)} ms.\n", flush=True)
    if not chosen.read_only:
        edits.edits(engines, chosen.rows,
                    lambda name, times: print(row(name, times, "quarry", wanted), flush=True))
        edits.load_table(engines, "quarry", chosen.rows)
        for disturbance in (edits.Patches, edits.Compactions):
            edits.beside(ours, OPERATIONS, chosen.rows, Arguments(ours.count_all()), quiet,
                         chosen.rounds, disturbance)
    memory = quarry_server.memory_peak_bytes(ours.pid())
    print(f"\nQuarry's peak RSS: {memory / 1e6:,.0f} MB; this process with all peers: "
          f"{own_memory() / 1e6:,.0f} MB. Loading: ours {ours.loaded_seconds:.1f} s.")
    print("Versions: " + ", ".join(f"{name} {engine.version}" for name, engine in engines.items()
                                   if hasattr(engine, "version")) + f", pyarrow {pa.__version__}")


if __name__ == "__main__":
    main()
