"""A template: loads what it is told to, comes to rest, and waits at its fork point.

    configure ─► preload ─► [load the function] ─► rehearse ─► rest ─► report ─► fork point ─► child: an instance

What it does before the fork point no child has to do, so it also runs once what a first request would run first.
"""

import gc
import importlib
import json
import os
import site
import sys
import time

import _lichen
import lichen.fifo  # so that functions find it
import lichen_errors
import lichen_forks
import lichen_function
import lichen_logging
import lichen_prepared
import lichen_rehearsal
import lichen_snapshot


def run():
    """Returns never: a child ends with what its function raises to end it."""
    config = json.loads(_lichen.configure())
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    lichen_logging.install()
    lichen_prepared.prepare()
    _find_packages()
    began = time.monotonic()
    missing = _preload(config.get("preload") or ())
    function = config.get("function")
    handler, error, reason = _load(function) if function else (None, None, None)
    took = time.monotonic() - began
    lichen_rehearsal.run()
    if not function:
        lichen_function.extend_path()
    reason = reason or _come_to_rest()
    report = {
        "forkable": reason is None,
        "reason": reason,
        "init_us": round(took * 1e6),
        "error": error,
        "missing": missing,
    }
    restored = lichen_snapshot.after if lichen_snapshot.is_awaited() else None
    _lichen.serve(json.dumps(report), handler, json.dumps(function), lichen_forks.seeds(), lichen_forks.asked(), restored)


def _find_packages():
    """What `site` does at a start, without its .pth files: they run code of whoever installed a package."""
    if sys.flags.no_site:
        site.setquit()
        site.sethelper()
        prefixes = [os.environ["VIRTUAL_ENV"]] if "VIRTUAL_ENV" in os.environ else None
        sys.path += [folder for folder in [*site.getsitepackages(prefixes), lichen_function.SDK] if os.path.isdir(folder)]


def _preload(names):
    """Imports modules for all children; those that cannot be had are named, with the reason."""
    missing = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {error}"
    return missing


def _load(config):
    """A dedicated template's function: its handler, Lambda's error object, the reason against forking."""
    _lichen.settle(json.dumps(config))
    lichen_function.extend_path()
    try:
        handler = lichen_function.load(config["handler"])
        lichen_snapshot.before()
        return handler, None, None
    except SystemExit as error:
        return None, None, f"the function ends its process when it is imported (SystemExit: {error})"
    except Exception as error:
        return None, lichen_errors.describe(error), "the function cannot be loaded"


def _come_to_rest():
    """Leaves one thread and nothing that a child could not have: the reason where that fails."""
    sys.stdout.flush()
    sys.stderr.flush()
    threads = _lichen.rehearse_fork()
    if threads != 1:
        return f"{threads - 1} thread(s) started by the function or its libraries do not end before a fork"
    if obstacles := _lichen.obstacles():
        return "open where the function or its libraries left it: " + ", ".join(obstacles)
    # What is there now is garbage to nobody: a collection in a child must not touch, and so copy, all of it.
    gc.collect()
    gc.freeze()
    _lichen.fill_holes()
    return None
