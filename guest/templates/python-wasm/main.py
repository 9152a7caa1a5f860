"""A pure function in Python: every item of the set `in`, in capital letters, under its own name in the set `out`."""

from pathlib import Path

for item in sorted(Path("/in/in").iterdir()):
    (Path("/out/out") / item.name).write_text(item.read_text().upper())
