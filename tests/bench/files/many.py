"""Ten million entries without ten million inodes: an agent's stream, the same door that `quarry agent` uses, tells the
directories of the real tree again and again under new names of their parent."""

import os
import pathlib
import queue
import stat
import time

AGENT = "quarry.files.v1.AgentService"
# Bounds of a message, as the server has them.
ENTRIES_MAX = 5_000
NEEDLE = "quarrybenchneedle"
DIRECTORY, FILE, SYMLINK = 2, 1, 3
# Inodes of one repetition are not those of another.
INODES_APART = 1 << 24


class Directory:
    """What a listing says of a directory, read once."""

    def __init__(self, path, root):
        self.path = os.fsencode(os.path.relpath(path, root))
        status = os.stat(path)
        self.inode, self.modified = status.st_ino, status.st_mtime_ns
        rows = sorted((os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in os.scandir(path))
        rows = [(name, status) for name, status in rows if kind_of(status)]
        self.names = [name for name, _ in rows]
        self.kinds = bytes(kind_of(status) for _, status in rows)
        self.sizes = [0 if kind_of(status) == DIRECTORY else status.st_size for _, status in rows]
        self.modify_times = [status.st_mtime_ns for _, status in rows]
        self.change_times = [status.st_ctime_ns for _, status in rows]
        self.inodes = [status.st_ino % INODES_APART for _, status in rows]
        self.modes = [status.st_mode & 0o7777 for _, status in rows]
        self.targets = [os.fsencode(os.readlink(os.path.join(os.fsencode(path), name)))
                        for name, status in rows if kind_of(status) == SYMLINK]


def kind_of(status):
    if stat.S_ISDIR(status.st_mode):
        return DIRECTORY
    if stat.S_ISLNK(status.st_mode):
        return SYMLINK
    return FILE if stat.S_ISREG(status.st_mode) else 0


class Teller:
    """An agent that tells `count` entries and goes."""

    def __init__(self, ours, tree, count):
        self.ours, self.count, self.told, self.seq = ours, count, 0, 0
        self.request, self.connect = ours.method(AGENT, "Connect")
        source = pathlib.Path(tree) / "all"
        # A parent before its children.
        self.directories = [Directory(path, source) for path, _, _ in os.walk(source)]
        self.once = sum(len(directory.names) for directory in self.directories) + 1

    def fill(self, listing, directory, at, start, end):
        """Its entries from `start` to `end`; more of them may follow as another listing."""
        listing.path = b"r%06d" % at + (b"" if directory.path == b"." else b"/" + directory.path)
        listing.device, listing.modified = 1, directory.modified
        apart = (at + 1) * INODES_APART
        listing.inode = apart + directory.inode % INODES_APART
        listing.continues = end < len(directory.names)
        part = slice(start, end)
        listing.names.extend(directory.names[part])
        listing.kinds = kinds = directory.kinds[part]
        listing.sizes.extend(directory.sizes[part])
        listing.modify_times.extend(directory.modify_times[part])
        listing.change_times.extend(directory.change_times[part])
        listing.birth_times.extend(directory.change_times[part])
        listing.inodes.extend([apart + inode for inode in directory.inodes[part]])
        listing.modes.extend(directory.modes[part])
        listing.links.extend([1] * len(kinds))
        listing.uids.extend([0] * len(kinds))
        listing.gids.extend([0] * len(kinds))
        first = directory.kinds[:start].count(SYMLINK)
        listing.link_targets.extend(directory.targets[first : first + kinds.count(SYMLINK)])

    def root(self, listing, repetitions):
        names = sorted([b"r%06d" % at for at in range(repetitions)] + [NEEDLE.encode()])
        listing.device, listing.inode = 1, 2
        listing.names.extend(names)
        listing.kinds = bytes(FILE if name == NEEDLE.encode() else DIRECTORY for name in names)
        for column in (listing.sizes, listing.modify_times, listing.change_times, listing.birth_times, listing.uids,
                       listing.gids):
            column.extend([0] * len(names))
        listing.inodes.extend(range(3, 3 + len(names)))
        listing.links.extend([1] * len(names))
        listing.modes.extend([0o755] * len(names))

    def messages(self):
        """Batches as full as they may be; a directory of more goes in parts."""
        repetitions = max(self.count // self.once, 1)
        message, filled = self.request(), 0
        self.root(message.batch.listings.add(), repetitions)
        self.told = filled = repetitions + 1
        for at in range(repetitions):
            for directory in self.directories:
                for start in range(0, max(len(directory.names), 1), ENTRIES_MAX):
                    end = min(start + ENTRIES_MAX, len(directory.names))
                    if filled + end - start > ENTRIES_MAX or len(message.batch.listings) >= 1_000:
                        yield message
                        message, filled = self.request(), 0
                    self.fill(message.batch.listings.add(), directory, at, start, end)
                    filled += end - start
                    self.told += end - start
        yield message
        end = self.request()
        end.walk_end.root_device, end.walk_end.root_inode = 1, 2
        yield end

    def numbered(self, message):
        self.seq += 1
        message.__getattribute__(message.WhichOneof("message")).seq = self.seq
        return message

    def run(self, location, device):
        """Seconds until everything is stored, and until names are found by their trigrams too."""
        say = queue.Queue()
        hello = self.request()
        hello.hello.location_id, hello.hello.device = location, device
        hello.hello.root_device, hello.hello.root_inode = 1, 2
        wish, ping = self.request(), self.request()
        wish.wish.SetInParent()
        ping.ping.SetInParent()
        say.put(hello)
        answers = self.connect(iter(say.get, None), metadata=self.ours.metadata)
        credits, sent, acknowledged, left, begin, stored = 0, 0, 0, None, None, None
        for answer in answers:
            what = answer.WhichOneof("message")
            if what == "welcome":
                credits = answer.welcome.credits
                say.put(wish)
            elif what == "scan":
                begin, left = time.perf_counter(), self.messages()
            elif what == "ack":
                acknowledged += 1
            elif what == "done":
                say.put(None)
                done = time.perf_counter()
                return stored - begin, done - begin, answer.done
            while left is not None and sent - acknowledged < credits:
                message = next(left, None)
                if message is None:
                    left = None
                    break
                if message.WhichOneof("message") == "walk_end":
                    if sent > acknowledged:
                        left = iter([message])
                        break
                    stored = time.perf_counter()
                say.put(self.numbered(message))
                sent += 1
        raise RuntimeError("the stream ended before its scan")
