"""What a first request would run first, run in the template: its children find bytecode specialised and caches filled.

It runs nothing of the function's.
"""

import importlib
import logging
import os
import sys

import lichen_function
import lichen_instance
from lichen_answer import answer

# The interpreter specialises code after eight runs, and needs a few more until it is content with it.
_RUNS = 24
_EVENT = '{"key": "value", "numbers": [1, 2.5, true, null], "nested": {"text": "\\u00e9"}}'
_CONFIG = {
    "function_name": "rehearsal",
    "function_version": "$LATEST",
    "handler": "rehearsal.handler",
    "memory_mib": 128,
    "log_group": "",
    "log_stream": "",
}


def run(imports):
    """Rehearses requests, and the import of a function's module where children will do one."""
    settings = lichen_function.Settings(_CONFIG)
    invocation = (_EVENT, 0, "request", "arn", "", "", "", "")
    for _ in range(_RUNS):
        succeeded, _text = answer(_handle, settings, invocation, _begin)
        assert succeeded
        lichen_instance.flush()
    if imports:
        _import()


def _begin():
    pass


def _handle(event, context):
    record = logging.LogRecord("root", logging.INFO, __file__, 1, "%s", ("text",), None)
    for handler in logging.getLogger().handlers:
        handler.filter(record)
        handler.format(record)
    context.get_remaining_time_in_millis()
    return {"statusCode": 200, "body": event}


def _import():
    folder = f"/tmp/lichen-rehearsal-{os.getpid()}"
    names = [f"lichen_rehearsed_{run}" for run in range(_RUNS)]
    try:
        os.mkdir(folder)
    except OSError:
        return  # no writable /tmp: children import a little slower
    sys.path.insert(0, folder)
    try:
        for name in names:
            with open(f"{folder}/{name}.py", "w") as file:
                file.write("import json\n\ndef handler(event, context):\n    return event\n")
            importlib.invalidate_caches()
            lichen_function.load(f"{name}.handler")
            del sys.modules[name]
    finally:
        sys.path.remove(folder)
        sys.path_importer_cache.pop(folder, None)
        for name in os.listdir(folder):
            if name.endswith(".py"):
                os.unlink(f"{folder}/{name}")
        os.rmdir(folder)
