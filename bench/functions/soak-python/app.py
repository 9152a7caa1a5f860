import os
import time

served = 0


def hello(event, context):
    return "hello"


def echo(event, context):
    return event


def fail(event, context):
    """Fails as often as its event says."""
    if event["fail"]:
        raise LookupError("as asked")
    return "well"


def speak(event, context):
    """Prints a few lines."""
    for number in range(event["lines"]):
        print(f"line {number} of request {context.aws_request_id}")
    return event["lines"]


def leave(event, context):
    """Ends its process, or outlives its time, as its event says."""
    if event["how"] == "exit":
        os._exit(3)
    if event["how"] == "stay":
        time.sleep(60)
    return "here"


def fill(event, context):
    """Uses memory, and gives it back."""
    block = bytearray(os.urandom(4096)) * (event["mib"] * 256)
    return len(block)


def first(event, context):
    """How often this instance has served: once, where each request gets its own."""
    global served
    served += 1
    return served
