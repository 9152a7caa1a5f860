"""Counts words by map and reduce, with FIFOs between.

    count.py ──► reduce {"who": true}                    its process
             ──► map × n {"job", "part", "text", "reducer"} ══ FIFO ══╮
             ──► reduce {"job", "parts"} ◄════════════════════════════╯   adds up what comes, in whatever order

Each mapper makes a FIFO whose id both sides know, and lets the reducer read it. What a mapper has written waits there.
"""

import hashlib
import json
import re
import time
from collections import Counter

WORD = re.compile(r"[a-z]+")
# For how long a reducer waits for a mapper to begin, and to end.
PATIENCE = 20

# FIFOs end with what holds them: they are kept until the next job.
kept = {}


def count(text):
    """The words of a text, and how often each occurs."""
    return Counter(WORD.findall(text.lower()))


def fifo_id(job, part):
    """Sixteen hexadecimal digits that only this part of this job has."""
    return hashlib.sha256(f"{job}/{part}".encode()).hexdigest()[:16]


def map(event, context):
    """Counts the words of one part of the text, and leaves the counts for the reducer."""
    from lichen import fifo

    job = event["job"]
    for other in [other for other in kept if other != job]:
        del kept[other]
    counts = count(event["text"])
    out = fifo.create(id=fifo_id(job, event["part"]))
    out.grant(event["reducer"], "r")
    writer = out.connect_writer()
    words = list(counts.items())
    for at in range(0, len(words), 500):
        writer.write(json.dumps(words[at : at + 500]).encode(), timeout=PATIENCE)
    writer.write(b"")
    kept.setdefault(job, []).append((out, writer))
    return {"words": counts.total()}


def reduce(event, context):
    """Adds up what the mappers have counted: the ten most frequent words of all."""
    from lichen import fifo

    if event.get("who"):
        return fifo.process_id()
    total = Counter()
    for part in range(event["parts"]):
        with _reader(fifo, fifo_id(event["job"], part)) as reader:
            while message := reader.read(timeout=PATIENCE):
                total.update(dict(json.loads(message)))
    top = sorted(total.items(), key=lambda entry: (-entry[1], entry[0]))[:10]
    return {"words": total.total(), "distinct": len(total), "top": top}


def _reader(fifo, id):
    """The FIFO of a mapper, as soon as it is there."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return fifo.connect_reader(id)
        except fifo.FifoError:
            if time.monotonic() > until:
                raise
            time.sleep(0.005)
