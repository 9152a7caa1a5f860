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
import lichen_errors
import lichen_forks
import lichen_function
import lichen_instance
import lichen_logging
import lichen_rehearsal


def run():
    """Returns never in the template, and in its children when their function ends them."""
    config = json.loads(_lichen.configure())
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    lichen_logging.install()
    _find_packages()
    began = time.monotonic()
    missing = _preload(config.get("preload") or ())
    settings, handler, error, reason = _load(config.get("function"))
    took = time.monotonic() - began
    lichen_rehearsal.run(imports=handler is None)
    reason = reason or _come_to_rest()
    report = {
        "forkable": reason is None and error is None,
        "reason": reason,
        "init_us": round(took * 1e6),
        "error": error,
        "missing": missing,
    }
    lichen_forks.forking_ourselves(True)
    _begin(_lichen.serve(json.dumps(report)), settings, handler)


def _find_packages():
    """What `site` does at a start, without its .pth files: they run code of whoever installed a package."""
    if sys.flags.no_site:
        site.setquit()
        site.sethelper()
        sys.path += [folder for folder in site.getsitepackages() if os.path.isdir(folder)]


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
    """A dedicated template's function: settings, handler, Lambda's error object, reason against forking."""
    if config is None:
        return None, None, None, None
    settings = lichen_function.settle(config)
    try:
        return settings, lichen_function.load(settings.handler), None, None
    except SystemExit as error:
        return settings, None, None, f"the function ends its process when it is imported (SystemExit: {error})"
    except Exception as error:
        described = lichen_errors.describe(error)
        return settings, None, described, "the function cannot be loaded"


def _come_to_rest():
    """Leaves one thread and nothing that a child could not have: the reason where that fails."""
    lichen_instance.flush()
    threads = _lichen.rehearse()
    if threads != 1:
        return f"{threads - 1} thread(s) started by the function or its libraries do not end before a fork"
    if obstacles := _lichen.obstacles():
        return "open where the function or its libraries left it: " + ", ".join(obstacles)
    # What is there now is garbage to nobody: a collection in a child must not touch, and so copy, all of it.
    gc.collect()
    gc.freeze()
    _lichen.collapse()
    return None


def _begin(config, settings, handler):
    """The life of a child."""
    if handler is not None:
        if config:
            settings.log_stream = json.loads(config).get("log_stream", settings.log_stream)
            os.environ["AWS_LAMBDA_LOG_STREAM_NAME"] = settings.log_stream
    else:
        try:
            settings = lichen_function.settle(json.loads(config))
            handler = lichen_function.load(settings.handler)
        except Exception as error:
            lichen_instance.fail_to_load(error)
    _lichen.ready()
    lichen_instance.serve(handler, settings)
