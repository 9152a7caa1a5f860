"""Functions that talk through FIFOs, in both languages."""

import concurrent.futures
import io
import unittest
import uuid
import zipfile

from harness import Node, invoke

PYTHON = '''
import os, signal, time
from lichen import fifo

kept = {}


def handler(event, context):
    try:
        return globals()[event["do"]](**event.get("with", {}))
    except fifo.FifoError as error:
        return {"error": type(error).__name__, "why": getattr(error, "why", None), "sender": getattr(error, "sender", None)}
    except ValueError as error:
        return {"error": "ValueError", "message": str(error)}


def who():
    return fifo.process_id()


def make(to, rights="w", **options):
    made = kept["fifo"] = fifo.create(**options)
    kept["reader"] = made.connect_reader()
    made.grant(to, rights)
    return made.id


def grant(to, rights):
    kept["fifo"].grant(to, rights)


def revoke(of, rights):
    kept["fifo"].revoke(of, rights)


def connect(id):
    kept["writer"] = fifo.connect_writer(id)


def write(text=None, size=0):
    kept["writer"].write(text.encode() if text is not None else b"x" * size, timeout=5)


def read(timeout=5):
    message = kept["reader"].read(timeout=timeout)
    return {"text": message.decode()[:100], "len": len(message), "by": message.sender}


def close(end):
    kept.pop(end).close()


def die():
    os.kill(os.getpid(), signal.SIGKILL)
'''

NODE = '''
const { fifo } = require('lichen');
const kept = {};

const actions = {
  who: () => fifo.processId(),
  make: async ({ to, rights = 'w', ...options }) => {
    kept.fifo = await fifo.create({ id: options.id, messageMax: options.message_max });
    kept.reader = await kept.fifo.connectReader();
    await kept.fifo.grant(to, rights);
    return kept.fifo.id;
  },
  grant: ({ to, rights }) => kept.fifo.grant(to, rights),
  revoke: ({ of, rights }) => kept.fifo.revoke(of, rights),
  connect: async ({ id }) => { kept.writer = await fifo.connectWriter(id); },
  write: ({ text, size = 0 }) => kept.writer.write(text ?? Buffer.alloc(size, 'x'), { timeout: 5000 }),
  read: async ({ timeout = 5 }) => {
    const message = await kept.reader.read({ timeout: timeout * 1000 });
    return { text: message.toString().slice(0, 100), len: message.length, by: message.sender };
  },
  close: async ({ end }) => { await kept[end].close(); delete kept[end]; },
  die: () => process.kill(process.pid, 'SIGKILL'),
};

exports.handler = async (event) => {
  try {
    return (await actions[event.do](event.with ?? {})) ?? null;
  } catch (error) {
    if (error instanceof fifo.FifoError) return { error: error.name, why: error.why ?? null, sender: error.sender ?? null };
    if (error instanceof RangeError) return { error: 'ValueError', message: error.message };
    throw error;
  }
};
'''


class Party:
    """A function with one warm instance."""

    def __init__(self, api, language):
        self.api, self.name = api, f"party-{uuid.uuid4().hex[:8]}"
        file, source = ("app.py", PYTHON) if language == "python" else ("index.js", NODE)
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr(file, source)
        api.create_function(
            FunctionName=self.name,
            Runtime="python3.11" if language == "python" else "nodejs20.x",
            Handler="app.handler" if language == "python" else "index.handler",
            Role="arn:aws:iam::000000000000:role/test",
            Timeout=20,
            Code={"ZipFile": package.getvalue()},
        )

    def do(self, what, **arguments):
        answer = invoke(self.api, self.name, {"do": what, "with": arguments})
        assert not answer.failed or what == "die", answer.value
        return answer.value


class Fifos(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())
        cls.api = cls.node.client()

    def pairs(self):
        for reads in ("python", "nodejs"):
            for writes in ("python", "nodejs"):
                yield Party(self.api, reads), Party(self.api, writes)

    def test_messages(self):
        for reader, writer in self.pairs():
            who = writer.do("who")
            fifo = reader.do("make", to=who)
            self.assertEqual((len(fifo), len(who)), (16, 16))
            writer.do("connect", id=fifo)
            for text in ("one", "", "é" * 20):
                writer.do("write", text=text)
            for text in ("one", "", "é" * 20):
                self.assertEqual(reader.do("read"), {"text": text, "len": len(text.encode()), "by": who})
            # A long one goes as its reader takes it.
            with concurrent.futures.ThreadPoolExecutor() as pool:
                reading = pool.submit(reader.do, "read")
                self.assertIsNone(writer.do("write", size=6 << 20))
                self.assertEqual(reading.result()["len"], 6 << 20)
            self.assertEqual(reader.do("read", timeout=0.05)["error"], "TimedOut")

    def test_ends(self):
        for reader, writer in self.pairs():
            who = writer.do("who")
            fifo = reader.do("make", to=who)
            writer.do("connect", id=fifo)
            writer.do("write", text="last")
            writer.do("close", end="writer")
            self.assertEqual(reader.do("read")["text"], "last")
            self.assertEqual(reader.do("read"), {"error": "Ended", "why": "closed", "sender": who})
            writer.do("connect", id=fifo)
            writer.do("write", text="in time")
            self.assertEqual(reader.do("read")["text"], "in time")
            reader.do("revoke", of=who, rights="w")
            self.assertEqual(writer.do("write", text="too late"), {"error": "Ended", "why": "revoked", "sender": None})
            self.assertEqual(reader.do("read"), {"error": "Ended", "why": "revoked", "sender": who})
            self.assertEqual(writer.do("connect", id=fifo)["error"], "NotPermitted")
            reader.do("grant", to=who, rights="w")
            writer.do("connect", id=fifo)
            writer.do("write", text="in time")
            self.assertEqual(reader.do("read")["text"], "in time")
            writer.do("die")
            self.assertEqual(reader.do("read"), {"error": "Ended", "why": "died", "sender": who})
            again = writer.do("who")
            reader.do("grant", to=again, rights="w")
            writer.do("connect", id=fifo)
            reader.do("die")
            # Its node may answer for the dead before the shim has cut the lane; until then a message waits for nobody.
            answers = (writer.do("write", text="to nobody") for _ in range(100))
            self.assertEqual(next(answer for answer in answers if answer)["why"], "died")

    def test_what_is_refused(self):
        for reader, writer in self.pairs():
            who = writer.do("who")
            for id in ("", "nonsense", "0" * 16):
                self.assertEqual(writer.do("connect", id=id)["error"], "ValueError", id)
            self.assertEqual(writer.do("connect", id="f" * 16)["error"], "FifoError")
            chosen = uuid.uuid4().hex[:16]
            self.assertEqual(reader.do("make", to=who, id=chosen), chosen)
            self.assertEqual(writer.do("make", to=who, id=chosen)["error"], "FifoError")
            self.assertEqual(reader.do("make", to=who, rights="x")["error"], "ValueError")
            self.assertEqual(reader.do("make", to="a" * 16)["error"], "FifoError")
            fifo = reader.do("make", to=who, message_max=1000)
            writer.do("connect", id=fifo)
            self.assertEqual(writer.do("write", size=1001)["error"], "ValueError")
            writer.do("write", size=1000)
            self.assertEqual(reader.do("read")["len"], 1000)


if __name__ == "__main__":
    unittest.main()
