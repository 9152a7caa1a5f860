"""The root logger as functions find it on Lambda: one handler, to the log, with the request's id in every line."""

import logging
import sys
import time

# Set from outside, for every invocation: lines from then on belong to that request.
request_id = ""


class LambdaLoggerHandler(logging.Handler):
    """Writes to whatever sys.stdout is by then."""

    def emit(self, record):
        sys.stdout.write(self.format(record))


def _add_request(record):
    record.aws_request_id = request_id
    return True


handler = LambdaLoggerHandler()


def install():
    """Gives the root logger its handler."""
    form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    formatter = logging.Formatter(form, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(_add_request)
    logging.getLogger().addHandler(handler)
