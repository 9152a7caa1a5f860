"""Counts the words of files with functions of a node: count.py MAPPERS FILE…; LICHEN_ENDPOINT says where the node is."""

import concurrent.futures
import json
import os
import pathlib
import sys
import urllib.request
import uuid

ENDPOINT = os.environ.get("LICHEN_ENDPOINT", "http://127.0.0.1:9000")


def invoke(name, event):
    request = urllib.request.Request(
        f"{ENDPOINT}/2015-03-31/functions/{name}/invocations", json.dumps(event).encode(), method="POST"
    )
    with urllib.request.urlopen(request) as answer:
        value = json.load(answer)
        if answer.headers["x-amz-function-error"]:
            raise RuntimeError(f"{name}: {value}")
        return value


def parts(text, count):
    """The text in so many parts of about the same length, cut where no word is."""
    lines = text.splitlines(keepends=True)
    size = sum(map(len, lines)) / count
    pieces, done = [[] for _ in range(count)], 0
    for line in lines:
        pieces[min(int(done / size), count - 1)].append(line)
        done += len(line)
    return ["".join(piece) for piece in pieces]


def main(mappers, files):
    text = "\n".join(pathlib.Path(file).read_text(errors="replace") for file in files)
    job, reducer = uuid.uuid4().hex, invoke("reduce", {"who": True})
    with concurrent.futures.ThreadPoolExecutor(mappers + 1) as pool:
        reducing = pool.submit(invoke, "reduce", {"job": job, "parts": mappers})
        jobs = [{"job": job, "part": at, "text": part, "reducer": reducer} for at, part in enumerate(parts(text, mappers))]
        mapped = list(pool.map(lambda event: invoke("map", event), jobs))
        reduced = reducing.result()
    print(json.dumps({**reduced, "by_mapper": [part["words"] for part in mapped]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
