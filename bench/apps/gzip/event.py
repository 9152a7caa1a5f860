"""Prints an event for `app.handler`: 8,000 lines of a web server's log, about 1.2 MB, the same in every run."""

import json
import random
import sys
import time

PATHS = ["/", "/index.html", "/about", "/cart", "/login", "/api/items", "/api/items/{}", "/api/users/{}/orders", "/img/{}.jpg"]
AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "curl/8.14.1",
]
STATUS = {200: 90, 304: 5, 404: 3, 500: 2}


def event(lines=8000, seed=1):
    rng = random.Random(seed)
    clients = [".".join(str(rng.randrange(1, 255)) for _ in range(4)) for _ in range(300)]
    now, log = 1_750_000_000.0, []
    for _ in range(lines):
        now += rng.expovariate(5)
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now))
        path = rng.choice(PATHS).format(rng.randrange(10_000))
        status = rng.choices(list(STATUS), STATUS.values())[0]
        size = int(rng.lognormvariate(7, 1.5))
        log.append(f'{rng.choice(clients)} - - [{stamp}] "GET {path} HTTP/1.1" {status} {size} "-" "{rng.choice(AGENTS)}"\n')
    return {"log": "".join(log), "level": 6}


if __name__ == "__main__":
    json.dump(event(), sys.stdout)
