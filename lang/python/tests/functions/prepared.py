"""Prepares much when it is imported, and has a library's fork hooks."""

import os
import random

loaded_by = os.getpid()
hooked = []
os.register_at_fork(
    before=lambda: hooked.append("before"),
    after_in_child=lambda: hooked.append("child"),
    after_in_parent=lambda: hooked.append("parent"),
)
opened = open(__file__)
opened.readline()


def handler(event, context):
    position = opened.tell()
    opened.seek(0)
    return {
        "loaded_by": loaded_by,
        "pid": os.getpid(),
        "hooked": hooked,
        "position": position,
        "first": opened.readline(),
        "random": random.random(),
        "stream": [context.log_stream_name, os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]],
        "key": os.environ["KEY"],
    }
