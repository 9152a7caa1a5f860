"""The root logger as functions find it on Lambda: one handler, to the log, with the request's id in every line.

A line is text, or a JSON record where the function's configuration says so. What is printed stays as it is.
"""

import json
import logging
import sys
import time

_TEXT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
_MOMENT = "%Y-%m-%dT%H:%M:%S"

# Set from outside, for every invocation: lines from then on belong to that request, and its tenant.
request_id = ""
tenant_id = ""

# Whether lines are records.
is_json = False


class LambdaLoggerHandler(logging.Handler):
    """Writes to whatever sys.stdout is by then."""

    def emit(self, record):
        sys.stdout.write(self.format(record))


class JsonFormatter(logging.Formatter):
    """One record as JSON, with what the caller has given in `extra`."""

    # What every record has, and what is said of it in other words.
    OURS = frozenset(vars(logging.makeLogRecord({}))) | {"aws_request_id", "tenant_id"}

    def format(self, record):
        """The record's line."""
        is_dict = isinstance(record.msg, dict) and not record.args
        values = {
            "timestamp": time.strftime(_MOMENT + "Z", time.gmtime(record.created)),
            "level": logging.getLevelName(min(max(record.levelno, 0), logging.CRITICAL) // 10 * 10),
            "message": record.msg if is_dict else record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[0] is not None:
            import traceback

            kind, error, trace = record.exc_info
            values["stackTrace"] = traceback.format_tb(trace)
            values["errorType"] = kind.__name__
            values["errorMessage"] = str(error)
        values["requestId"] = record.aws_request_id or None
        if record.exc_info:
            values["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
        if record.tenant_id:
            values["tenantId"] = record.tenant_id
        for name, value in vars(record).items():
            if name not in self.OURS:
                values.setdefault(name, value)
        return _line({name: value for name, value in values.items() if value is not None})


def _line(values):
    # What json cannot write is written as text rather than not at all.
    return json.dumps(values, ensure_ascii=False, default=str) + "\n"


def _add_request(record):
    record.aws_request_id = request_id
    record.tenant_id = tenant_id
    return True


handler = LambdaLoggerHandler()


def install():
    """Gives the root logger its handler."""
    formatter = logging.Formatter(_TEXT, _MOMENT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(_add_request)
    logging.getLogger().addHandler(handler)


def configure(form, level):
    """Does what the function's configuration says: its log's format, and the least level that is logged."""
    global is_json
    is_json = form.upper() == "JSON"
    if is_json:
        handler.setFormatter(JsonFormatter())
    level = "DEBUG" if level.upper() == "TRACE" else level.upper()
    if level in logging.getLevelNamesMapping():
        logging.getLogger().setLevel(level)


def error(described):
    """The record of an error that nobody has caught."""
    moment = time.strftime(_MOMENT + "Z", time.gmtime())
    return _line({"timestamp": moment, "level": "ERROR", **described})
