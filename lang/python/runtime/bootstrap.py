"""What runs a Python function that is started by a program of its own: one whose start is wrapped
(AWS_LAMBDA_EXEC_WRAPPER), or that has extensions beside it.

It asks AWS's Runtime API for events, and loads and calls the handler by the same code as the forkable runtime: see
lang/provided. It forks nothing and prepares nothing; whoever wants quick starts does without a wrapper.
"""

import http.client
import os
import site
import sys

_RUNTIME = __file__.rpartition("/")[0]
if _RUNTIME not in sys.path:
    sys.path.insert(0, _RUNTIME)

import lichen_answer
import lichen_function
import lichen_logging
import lichen_snapshot
from lichen_context import LambdaContext, Settings
from lichen_errors import Fault

# Ours are loaded; from here on the path belongs to the function.
sys.path[:] = [folder for folder in sys.path if folder != _RUNTIME]


class Api:
    """The Runtime API, on one connection."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address)

    def ask(self, method, path, body=None):
        """One request: the answer's headers and body."""
        body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
        self.connection.request(method, f"/2018-06-01/runtime/{path}", body)
        answer = self.connection.getresponse()
        return answer.headers, answer.read()


def settle():
    """What is the same for every invocation."""
    settings = Settings()
    settings.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    settings.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
    settings.memory = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
    settings.log_group = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
    settings.log_stream = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
    # The interpreter's, which is nothing that the function has to know.
    environment = os.environ.pop("VIRTUAL_ENV", None)
    packages = site.getsitepackages([environment]) if environment else []
    sys.path += [folder for folder in [*packages, lichen_function.SDK] if os.path.isdir(folder)]
    lichen_function.extend_path()
    lichen_function.settled()
    return settings


def load(api):
    """The handler, restored where the function has SnapStart. One that cannot be had ends the process."""
    stage = "init"
    try:
        handler = lichen_function.load(os.environ["_HANDLER"])
        if os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start":
            lichen_snapshot.before()
            api.ask("GET", "restore/next")
            stage = "restore"
            lichen_snapshot.after()
        return handler
    except Exception as error:
        body = lichen_answer.failed(error)
        sys.stdout.flush()
        api.ask("POST", f"{stage}/error", body)
        sys.exit(1)


def answer(handler, settings, headers, event):
    """What the handler answers, or its error: the path to post it to, below the invocation's, and the body."""
    request_id = headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        context = LambdaContext(
            settings,
            int(headers["Lambda-Runtime-Deadline-Ms"]),
            request_id,
            headers["Lambda-Runtime-Invoked-Function-Arn"],
            headers["Lambda-Runtime-Client-Context"] or "",
            headers["Lambda-Runtime-Cognito-Identity"] or "",
            headers["Lambda-Runtime-Aws-Tenant-Id"] or "",
        )
        value = handler(decode(event), context)
        return "response", value if isinstance(value, bytes) else lichen_answer.encode(value)
    except Exception as error:
        return "error", lichen_answer.failed(error, request_id)


def decode(event):
    """An event's value. No text at all is an empty object."""
    if not event.strip():
        return {}
    try:
        return lichen_answer.decode(event.decode())
    except UnicodeDecodeError as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def run():
    """Serves until the process is ended."""
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    lichen_logging.install()
    api = Api(os.environ["AWS_LAMBDA_RUNTIME_API"])
    settings = settle()
    handler = load(api)
    while True:
        headers, event = api.ask("GET", "invocation/next")
        request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        lichen_logging.request_id = request_id
        lichen_logging.tenant_id = headers["Lambda-Runtime-Aws-Tenant-Id"] or ""
        lichen_function.set_trace(headers["Lambda-Runtime-Trace-Id"])
        outcome, body = answer(handler, settings, headers, event)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass  # the function has closed it, or put something else there
        api.ask("POST", f"invocation/{request_id}/{outcome}", body)


if __name__ == "__main__":
    run()
