"""Writes beside the engines, and reads while somebody writes.

Each engine makes the same edits durable: the answer is awaited, and every engine's own way to
change rows by key and by a condition is used. They run after the reads, as they change the data;
that all engines hold the same afterwards is asked of each.
"""

import sys
import threading
import time

import numpy as np

ROUNDS = 7
UPDATED_KEYS = 30
# Beside a disturbance what is quick is asked so often, if it takes no longer than this.
QUICK_ROUNDS, SECONDS_ENOUGH = 60, 6
FIRST_WIDTH = 640
WIDTHS = 3_400
# So few parts may wait to be merged.
PARTS_FEW = 30


def load_table(engines, ours, rows):
    """A line on how long each took to hold the rows, indexes not counted."""
    loaded = {who: engine.loaded_seconds for who, engine in engines.items()
              if getattr(engine, "loaded_seconds", None)}
    print("\n| durable load | seconds | rows/s | ratio of ours |\n|---|---|---|---|")
    for who, seconds in sorted(loaded.items(), key=lambda pair: pair[1]):
        ratio = "" if who == ours else f"**{seconds / loaded[ours]:.2f}×** as fast"
        print(f"| {who} | {seconds:.1f} | {rows / seconds:,.0f} | {ratio} |")


def in_turns(engines, method, arguments_of, rounds):
    """Seconds of each engine that can, in turns, the first round thrown away."""
    able = [who for who, engine in engines.items() if hasattr(engine, method)]
    times = {who: [] for who in able}
    rng = np.random.default_rng(11)
    for turn in range(rounds + 1):
        arguments = arguments_of(turn)
        rng.shuffle(able)
        for who in able:
            begin = time.perf_counter()
            getattr(engines[who], method)(*arguments)
            if turn:
                times[who].append(time.perf_counter() - begin)
    return times


def edits(engines, rows, cell_row):
    """Updates by key, then deletes by a condition; `cell_row` prints a line of the table."""
    rng = np.random.default_rng(13)

    def thirty(turn):
        numbers = sorted({int(n) for n in rng.integers(0, rows, UPDATED_KEYS)})
        return [f"00000000-0000-7000-8000-{n:012d}" for n in numbers], f"changed in round {turn}"

    # Widths near the upper end, which the reads before asked for the least.
    widths = [FIRST_WIDTH + WIDTHS - 1 - turn for turn in range(ROUNDS + 1)]
    cell_row("update 30 rows by key", in_turns(engines, "update_by_key", thirty, ROUNDS))
    cell_row("delete 0.03 % by a condition",
             in_turns(engines, "delete_width", lambda turn: (widths[turn],), ROUNDS))
    left = {who: engine.count_all() for who, engine in engines.items() if hasattr(engine, "delete_width")}
    if len(set(left.values())) != 1:
        raise AssertionError(f"the engines hold different rows after the same edits: {left}")


class Disturbed:
    """Something done again and again beside the reads, as long as the block lasts."""

    def __init__(self, ours, rows):
        self.ours, self.rows = ours, rows
        self.ended, self.done, self.failure = threading.Event(), 0, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        rng = np.random.default_rng(17)
        while not self.ended.wait(self.every):
            try:
                self.disturb(rng)
                self.done += 1
            except Exception as error:  # noqa: BLE001 - told by the table's reader
                self.failure = error
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


class Patches(Disturbed):
    """One patch of a row each second."""

    title, every = "1 patch/s", 1.0

    def disturb(self, rng):
        key = f"00000000-0000-7000-8000-{int(rng.integers(0, self.rows)):012d}"
        self.ours.update_by_key([key], "changed meanwhile")

    def told(self):
        return f"{self.done} patches were acknowledged meanwhile."


class Compactions(Disturbed):
    """Small parts put to a dataset beside, which the server makes few blocks of meanwhile."""

    title, every = "compaction", 0.2

    def __enter__(self):
        self.disturb(None)
        self.done = 1
        return super().__enter__()

    def disturb(self, rng):
        self.ours.append_part(self.done)

    def told(self):
        blocks = self.ours.part_blocks()
        if blocks >= self.done > PARTS_FEW:
            raise AssertionError(f"{self.done} parts are {blocks} blocks: nothing was compacted")
        return f"{self.done} parts were put meanwhile, which are {blocks} blocks now."


def beside(ours, operations, rows, asked, quiet, rounds, disturbance):
    """Ours alone, disturbed: p50 beside the quiet one of the same run."""
    print(f"\n| quarry while {disturbance.title} runs | quiet p50 ms | p50 / p99 ms | ratio |\n|---|---|---|---|")
    with disturbance(ours, rows) as running:
        for name, arguments_of, method, _ in operations:
            if name not in quiet:
                continue
            seconds, begun = [], time.perf_counter()
            for turn in range(QUICK_ROUNDS + 1):
                if turn > rounds and time.perf_counter() - begun > SECONDS_ENOUGH:
                    break
                arguments = arguments_of(asked)
                prepare = getattr(ours, f"prepare_{method}", None)
                arguments = prepare(*arguments) if prepare else arguments
                begin = time.perf_counter()
                getattr(ours, method)(*arguments)
                if turn:
                    seconds.append(time.perf_counter() - begin)
            before, now = np.median(quiet[name]) * 1e3, np.median(seconds) * 1e3
            print(f"| {name} | {before:.2f} | {now:.2f} / {np.percentile(seconds, 99) * 1e3:.1f} "
                  f"| {now / before:.2f}× |", flush=True)
    if running.failure:
        raise running.failure
    print(running.told(), file=sys.stderr)
