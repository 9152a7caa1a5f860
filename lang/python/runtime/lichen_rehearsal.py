"""What a first request would run first, run in the template: its children find bytecode specialised and caches filled.

It runs nothing of the function's.
"""

import importlib.util
import logging
import marshal
import os
import sys

import _lichen
import lichen_logging

# The interpreter specialises code after eight runs, and needs a few more until it is content with it.
_RUNS = 24
# Of a file of bytecode that is valid for good.
_HEADER = importlib.util.MAGIC_NUMBER + bytes([1, 0, 0, 0]) + bytes(8)
_MODULE = "import json\n\n\ndef handler(event, context):\n    return event\n"


def run():
    """Rehearses requests, and the import of a function's module, until the interpreter is content with them."""
    for _ in range(_RUNS):
        _lichen.rehearse_request()
    _import_all(_RUNS)


def start():
    """The same once, in a child that waits for its function: what it writes to is its own from then on."""
    _import_all(1)
    _lichen.rehearse_request()


def _import_all(runs):
    folder = f"/tmp/lichen-rehearsal-{os.getpid()}"
    try:
        os.makedirs(f"{folder}/__pycache__")
    except OSError:
        return  # no writable /tmp: children import a little slower
    for run in range(runs):
        _import(folder, f"lichen_rehearsed_{run}")
        _import(folder, f"lichen_compiled_{run}", compiled=True)
    os.rmdir(f"{folder}/__pycache__")
    os.rmdir(folder)


def handler(event, context):
    """Does what most handlers do, and leaves nothing behind."""
    record = logging.LogRecord("root", logging.INFO, __file__, 1, "%s", ("text",), None)
    lichen_logging.handler.filter(record)
    lichen_logging.handler.format(record)
    context.get_remaining_time_in_millis()
    return {"statusCode": 200, "body": event}


def _import(folder, name, compiled=False):
    path = f"{folder}/{name}.py"
    cached = f"{folder}/__pycache__/{name}.{sys.implementation.cache_tag}.pyc"
    with open(path, "w") as file:
        file.write(_MODULE)
    if compiled:
        with open(cached, "wb") as file:
            file.write(_HEADER + marshal.dumps(compile(_MODULE, path, "exec")))
    _lichen.rehearse_import(folder, name)
    del sys.modules[name]
    os.unlink(path)
    if compiled:
        os.unlink(cached)
