"""Tells instances apart."""

import os
import time
import uuid

born = uuid.uuid4().hex
calls = 0


def handler(event, context):
    """How often this instance was called; waits first if asked to."""
    global calls
    calls += 1
    time.sleep(event.get("wait", 0))
    return {
        "instance": born,
        "calls": calls,
        "greeting": os.environ.get("GREETING"),
        "function": context.function_name,
        "log": print("called", calls),
    }
