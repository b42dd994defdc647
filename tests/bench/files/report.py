"""The table: medians of the rounds, each beside its peer of the same run."""

import collections
import os
import statistics


class Report:
    """Times in seconds and peaks of memory in MB, by name."""

    def __init__(self):
        self.times, self.memories = collections.defaultdict(list), collections.defaultdict(list)

    def add(self, name, seconds, memory=None):
        self.times[name].append(seconds)
        if memory is not None:
            self.memories[name].append(memory)

    def median(self, name):
        return statistics.median(self.times[name]) if self.times[name] else None

    def memory(self, name):
        return max(self.memories[name]) if self.memories[name] else None

    def head(self):
        print(f"\nload {os.getloadavg()[0]:.1f}\n")
        print("| work | peer | ours on | ours | ours, MB | ours / peer | target |")
        print("|---|---|---|---|---|---|---|")

    def row(self, work, peer, peer_name, database, ours, target, rate=None):
        """`peer` is a name of times, or why there are none."""
        mine = self.median(ours)
        if mine is None:
            return
        theirs = self.median(peer) if peer in self.times else None
        shown = peer_name
        if theirs is not None:
            memory = self.memory(peer)
            shown = f"{peer_name} {milliseconds(theirs)}" + (f", {memory:,.0f} MB" if memory else "")
        ratio = f"{mine / theirs:.2f}×" if theirs else "–"
        memory = self.memory(ours)
        speed = f" ({rate / mine:,.0f}/s)" if rate else ""
        print(f"| {work} | {shown} | {database} | {milliseconds(mine)}{speed} | "
              f"{'' if memory is None else f'{memory:,.0f}'} | {ratio} | {target} |", flush=True)


def milliseconds(seconds):
    value = seconds * 1e3
    return f"{value:,.2f} ms" if value < 100 else f"{value:,.0f} ms"
