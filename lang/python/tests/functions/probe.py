"""Answers questions about the process it runs in."""

import asyncio
import concurrent.futures
import decimal
import logging
import os
import random
import subprocess
import sys
import threading
import uuid

calls = 0


def handler(event, context):
    global calls
    calls += 1
    return globals()[event["ask"]](event, context)


def count(event, context):
    return calls


def echo(event, context):
    return event


def described(event, context):
    known = {name: value for name, value in vars(context).items() if isinstance(value, (str, type(None)))}
    return {
        "known": known,
        "remaining": context.get_remaining_time_in_millis(),
        "identity": context.identity.cognito_identity_id,
        "client": context.client_context and context.client_context.client.app_title,
        "custom": context.client_context and context.client_context.custom,
    }


def place(event, context):
    inherited = subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True)
    return {
        "environ": dict(os.environ),
        "inherited": eval(inherited.stdout),
        "cwd": os.getcwd(),
        "path": sys.path,
        "ids": [os.getuid(), os.getgid()],
        "ours": [name for name in sys.modules if name.startswith("lichen_")],
        "spec": [__spec__.name, __spec__.origin, __file__, __package__, __name__, type(__loader__).__name__],
    }


def raises(event, context):
    raise ValueError("on purpose")


def decimals(event, context):
    return {"number": decimal.Decimal("12345678901234567890.123"), "marked": "lichen-decimal"}


def raw(event, context):
    return b"\x00bytes\xff"


def unserialisable(event, context):
    return {1, 2}


async def coroutine(event, context):
    return 1


def circular(event, context):
    value = []
    value.append(value)
    return value


def large(event, context):
    return "x" * event["length"]


def unicode(event, context):
    return {"text": event["text"], "length": len(event["text"])}


def leaves(event, context):
    sys.exit(7)


def leaves_at_once(event, context):
    print("last words")
    os._exit(9)


def prints(event, context):
    print("a line")
    print("no end", end="")
    sys.stderr.write("an error")
    logging.getLogger().warning("a warning")
    logging.getLogger("quiet").info("not seen")
    return None


def closes_output(event, context):
    sys.stdout.close()
    return "still here"


def draws(event, context):
    drawn = {
        "random": random.random(),
        "uuid4": str(uuid.uuid4()),
        "urandom": os.urandom(8).hex(),
    }
    if "ssl" in sys.modules:
        drawn["ssl"] = sys.modules["ssl"].RAND_bytes(8).hex()
    if "numpy.random" in sys.modules:
        drawn["numpy"] = float(sys.modules["numpy"].random.random())
    if "tempfile" in sys.modules:
        drawn["tempfile"] = next(sys.modules["tempfile"]._get_candidate_names())
    return drawn


def threads(event, context):
    found = []
    thread = threading.Thread(target=lambda: found.append(threading.current_thread().name))
    thread.start()
    thread.join()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        squares = list(pool.map(lambda n: n * n, range(8)))

    async def later():
        await asyncio.sleep(0)
        return await asyncio.to_thread(lambda: "later")

    main = threading.main_thread() is threading.current_thread()
    return {"found": len(found), "squares": squares, "later": asyncio.run(later()), "main": main}


def multiplies(event, context):
    import numpy

    side = 400
    ones = numpy.ones((side, side))
    return {"sum": float((ones @ ones).sum()), "threads": len(os.listdir("/proc/self/task"))}


def requests_itself(event, context):
    import http.server

    import requests

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return requests.get(f"http://127.0.0.1:{server.server_port}/", timeout=10).text


def forks(event, context):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, f"{random.random()}".encode())
        return "the child returns, and must not answer"
    os.close(writer)
    theirs = os.read(reader, 100).decode()
    return {"status": os.waitpid(pid, 0)[1], "theirs": theirs, "ours": str(random.random())}


def runs_pool(event, context):
    import multiprocessing

    # Lambda, too, has no /dev/shm: processes and pipes work, pools do not.
    method = multiprocessing.get_context("fork")
    ours, theirs = method.Pipe()
    process = method.Process(target=theirs.send, args=("from below",))
    process.start()
    process.join()
    return ours.recv()


def descriptors(event, context):
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd") if int(fd) > 2)
    return sorted(os.readlink(link) for link in links if os.path.lexists(link))  # not the one that listed them


def module(event, context):
    return [event["name"] in sys.modules, getattr(sys.modules.get(event["name"]), "__version__", None)]
