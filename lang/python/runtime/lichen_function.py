"""A function's place (environment, folder, import path) and its handler."""

import importlib
import os
import sys
import time

import _lichen
from lichen_errors import Fault

TASK_ROOT = "/var/task"
_LAYERS = "/opt/python"


class Settings:
    """What is the same for every invocation of an instance. See lang/README.md."""

    __slots__ = ("function_name", "function_version", "handler", "memory", "log_group", "log_stream", "response_max")

    def __init__(self, config):
        self.function_name = config["function_name"]
        self.function_version = config["function_version"]
        self.handler = config["handler"]
        self.memory = str(config["memory_mib"])
        self.log_group = config["log_group"]
        self.log_stream = config["log_stream"]
        self.response_max = config.get("response_max", 6 * 1024 * 1024 + 100)


def settle(config):
    """Makes this process the place that the function expects: its settings."""
    settings = Settings(config)
    _set_environment(_environment(config, settings))
    os.chdir(TASK_ROOT)
    sys.path[:0] = [TASK_ROOT, *_layers()]
    return settings


def _environment(config, settings):
    region = config["region"]
    return {
        "_HANDLER": settings.handler,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{config['runtime']}",
        "AWS_LAMBDA_FUNCTION_NAME": settings.function_name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": settings.memory,
        "AWS_LAMBDA_FUNCTION_VERSION": settings.function_version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": config["initialization_type"],
        "AWS_LAMBDA_LOG_GROUP_NAME": settings.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": settings.log_stream,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "HOME": "/tmp",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": TASK_ROOT,
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": "/var/task:/var/task/lib:/opt/lib",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "PWD": TASK_ROOT,
        "PYTHONPATH": "/var/runtime",
        "TZ": ":UTC",
        **config["environment"],
    }


def _set_environment(variables):
    pairs = {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
    _lichen.environment([name + b"=" + value for name, value in pairs.items()])
    # What os.environ shows is its own copy, made when the template began.
    known = os.environ._data
    known.clear()
    known.update(pairs)
    if variables["TZ"] != ":UTC":
        time.tzset()
    if (level := variables.get("AWS_LAMBDA_LOG_LEVEL")) and (logging := sys.modules.get("logging")):
        level = "DEBUG" if level == "TRACE" else level.upper()
        if level in logging._nameToLevel:
            logging.getLogger().setLevel(level)


def _layers():
    if not os.path.isdir(_LAYERS):
        return ()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return (f"{_LAYERS}/lib/{version}/site-packages", _LAYERS)


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
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from None
    except SyntaxError as error:
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        message = f"Syntax error in module '{module_name}': {error}"
        raise Fault("Runtime.UserCodeSyntaxError", message, trace) from None
    try:
        return getattr(module, name)
    except AttributeError:
        message = f"Handler '{name}' missing on module '{module_name}'"
        raise Fault("Runtime.HandlerNotFound", message) from None
