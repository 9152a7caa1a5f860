"""A function's import path, what else its variables change, and its handler by the usual machinery."""

import importlib
import os
import sys
import time

import lichen_logging
from lichen_errors import Fault

TASK_ROOT = "/var/task"
# AWS's SDK, where the node has it: the last on the path, so that a function's own goes before it.
SDK = "/var/runtime/sdk/python"
_LAYERS = (f"/opt/python/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages", "/opt/python")
_TRACE = "_X_AMZN_TRACE_ID"


def extend_path():
    """Puts the function's folder, and its layers, before all that the interpreter finds by itself."""
    sys.path[:0] = [TASK_ROOT, *_LAYERS]
    for folder in _LAYERS:
        if not os.path.isdir(folder):
            # Children without layers need not look; those that get some forget this.
            sys.path_importer_cache[folder] = None


def settled():
    """Called when the function brings layers, or variables that change more than the environment."""
    for folder in _LAYERS:
        sys.path_importer_cache.pop(folder, None)
    time.tzset()
    lichen_logging.configure(os.environ.get("AWS_LAMBDA_LOG_FORMAT", ""), os.environ.get("AWS_LAMBDA_LOG_LEVEL", ""))


def set_trace(trace_id):
    """Tells X-Ray's libraries which trace the invocation belongs to."""
    if trace_id:
        os.environ[_TRACE] = trace_id
    elif _TRACE in os.environ:
        del os.environ[_TRACE]


def load(handler):
    """Imports the module of `module.function` or `folder/module.function`, and finds the function in it."""
    module_name, dot, name = handler.rpartition(".")
    if not dot:
        reason = "not enough values to unpack (expected 2, got 1)"
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{handler}': {reason}")
    if module_name.partition(".")[0] in sys.builtin_module_names:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise Fault("Runtime.BuiltInModuleConflict", message)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except (ImportError, SyntaxError) as error:
        raise explain(error, module_name) from None
    try:
        return getattr(module, name)
    except AttributeError:
        message = f"Handler '{name}' missing on module '{module_name}'"
        raise Fault("Runtime.HandlerNotFound", message) from None


def explain(error, module_name):
    """What Lambda makes of an error while a function's module is imported."""
    if isinstance(error, ImportError):
        return Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}")
    if isinstance(error, SyntaxError):
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        message = f"Syntax error in module '{module_name}': {error}"
        return Fault("Runtime.UserCodeSyntaxError", message, trace)
    return error
