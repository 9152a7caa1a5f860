"""Counts words by map and reduce: `mapper` and `reducer` are functions to chain, `handler` is the whole in one."""

import re
import zlib
from collections import Counter

WORD = re.compile(r"[a-z]+")


def mapper(event, context):
    """Counts the words of one `document`, in as many `partitions` as there are reducers."""
    parts = [{} for _ in range(event["partitions"])]
    for word, count in Counter(WORD.findall(event["document"].lower())).items():
        parts[zlib.crc32(word.encode()) % len(parts)][word] = count
    return {"partitions": parts}


def reducer(event, context):
    """Adds up the `counts` of one partition, one table per document."""
    total = Counter()
    for counts in event["counts"]:
        total.update(counts)
    return {"counts": total}


def handler(event, context):
    """Counts the words of all `documents`. Answers with the number of words and the ten most frequent ones."""
    partitions = event["partitions"]
    mapped = [mapper({"document": text, "partitions": partitions}, context)["partitions"] for text in event["documents"]]
    reduced = [reducer({"counts": counts}, context)["counts"] for counts in zip(*mapped)]
    total = Counter()
    for counts in reduced:
        total.update(counts)
    top = sorted(total.items(), key=lambda entry: (-entry[1], entry[0]))[:10]
    return {"words": total.total(), "distinct": len(total), "top": top}
