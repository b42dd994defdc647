"""Writes the values table of `helm/quarry/README.md` from `values.yaml` and its comments.

Run it after a change of the values; a test compares the two.
"""

import re
import sys
from pathlib import Path

CHART = Path(__file__).resolve().parents[2] / "helm" / "quarry"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"


def rows(text):
    """(key path, default, comment) of every value that has no children in block style."""
    stack, comment = [], []
    for line in text.splitlines():
        if not line.strip():
            comment = []
            continue
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith("#"):
            comment.append(line.strip().lstrip("#").strip().removeprefix("-- "))
            continue
        key, _, default = line.strip().partition(":")
        stack = [one for one in stack if one[0] < indent]
        path = ".".join([one[1] for one in stack] + [key])
        default = default.strip()
        if default or comment:
            yield path, default, " ".join(comment)
        if not default:
            stack.append((indent, key))
        comment = []


def table():
    lines = ["| value | default | what |", "|---|---|---|"]
    for path, default, comment in rows((CHART / "values.yaml").read_text()):
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{path}` | {shown} | {comment.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def with_table(readme):
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.S)
    return pattern.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", readme)


if __name__ == "__main__":
    path = CHART / "README.md"
    path.write_text(with_table(path.read_text()))
    sys.stdout.write(f"{path.name}: {len(table().splitlines()) - 2} values\n")
