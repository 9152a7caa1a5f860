"""What a plain Python start does with a function: load it, and for each line that it reads call it and print the answer.

    python3 runner.py app.handler < event.json      (in the function's folder)

Prints when the handler began (CLOCK_MONOTONIC, nanoseconds) on standard error, and ends with its standard input.
"""

import importlib
import json
import sys
import time

sys.path.insert(0, ".")
module, name = sys.argv[1].rsplit(".", 1)
handler = getattr(importlib.import_module(module), name)
for line in iter(sys.stdin.readline, ""):
    event = json.loads(line)
    begun = time.monotonic_ns()
    answer = handler(event, None)
    print(begun, file=sys.stderr, flush=True)
    print(json.dumps(answer), flush=True)
