"""A stage whose work is to note when it ran."""

from time import monotonic_ns


def handler(event, context):
    begun = monotonic_ns()
    stamps = [begun, 0]
    event["at"].append(stamps)
    stamps[1] = monotonic_ns()
    return event
