"""Functions that stream: `awslambda.streamifyResponse`, read by AWS's client and through function URLs."""

import base64
import concurrent.futures
import http.client
import json
import os
import re
import signal
import socket
import time
import unittest
import urllib.request
from pathlib import Path

from harness import Node, eventually
from test_boto3 import ROLE, package

SOURCE = """
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { setTimeout: later } = require('node:timers/promises');
const MIB = 1 << 20;

const acts = {
  async parts(event, stream) {
    for (const part of event.parts) {
      stream.write(part);
      await later(event.pause ?? 0);
    }
    stream.end();
  },
  async ends_with(event, stream) { stream.end('last words'); },
  async nothing(event, stream) { stream.end(); },
  async objects(event, stream) { stream.write({ a: 1 }); stream.write(new Uint8Array([66])); stream.end(); },
  async http(event, stream) {
    const metadata = { statusCode: 201, headers: { 'Content-Type': 'text/html', 'X-Own': 'yes' }, cookies: ['a=1', 'b=2'] };
    const described = awslambda.HttpResponseStream.from(stream, metadata);
    described.write('<p>');
    await later(event.pause ?? 0);
    described.write('text</p>');
    described.end();
  },
  async odd(event, stream) {
    const metadata = { number: { statusCode: 9999 }, text: 'text', long: { headers: { a: 'x'.repeat(100000) } } };
    awslambda.HttpResponseStream.from(stream, metadata[event.which]).end('body');
  },
  async piped(event, stream) {
    stream.setContentType('text/plain');
    await pipeline(Readable.from(['one ', 'two ', 'three']), stream);
  },
  async big(event, stream) {
    const part = Buffer.alloc(event.size ?? MIB, 'x');
    let left = event.mib * MIB, waits = 0;
    stream.write(`${process.hrtime.bigint()}\\n`);
    if (event.pause) await later(event.pause);
    while (left > 0) {
      left -= part.length;
      if (!stream.write(part)) {
        waits += 1;
        await new Promise((resolve) => stream.once('drain', resolve));
      }
    }
    const { rss } = process.memoryUsage();
    stream.end(`\\n${JSON.stringify({ rss, waits })}`);
  },
  async throws(event, stream) { throw new TypeError('at once'); },
  async throws_late(event, stream) { stream.write('half'); await later(10); throw new TypeError('in the middle'); },
  async never_ends(event, stream) { stream.write('half'); },
  async exits(event, stream) { stream.write('half'); await later(50); process.exit(3); },
  async crashes(event, stream) { stream.write('half'); setImmediate(() => { throw new Error('uncaught'); }); await later(60000); },
  async sleeps(event, stream) { stream.write('half'); await later(60000); },
  async returns(event, stream) { stream.write('ok'); stream.end(); return 'ignored'; },
  async late_type(event, stream) { stream.write('x'); stream.setContentType('text/plain'); },
  async mark(event, stream) { stream.end(String(stream.writableHighWaterMark)); },
  async context(event, stream, context) {
    stream.write(JSON.stringify({ keys: Object.keys(context), left: context.getRemainingTimeInMillis() > 0 }));
    stream.end();
  },
  async count(event, stream) { globalThis.calls = (globalThis.calls ?? 0) + 1; stream.end(`${globalThis.calls}`); },
};

const act = (event, stream, context) => {
  const asked = { ...(event.queryStringParameters ?? event) };
  for (const name of ['pause', 'mib', 'size']) if (name in asked) asked[name] = Number(asked[name]);
  return acts[asked.act](asked, stream, context);
};
exports.handler = awslambda.streamifyResponse(act);
exports.marked = awslambda.streamifyResponse(act, { highWaterMark: 1234 });
exports.hasty = awslambda.streamifyResponse((event, stream) => { stream.end('x'); });
exports.whole = async (event) => ({ statusCode: 418, body: 'whole' });
"""


def memory(pid):
    """MiB that a process has, and had at most."""
    text = Path(f"/proc/{pid}/status").read_text()
    return [int(re.search(rf"{name}:\s+(\d+) kB", text).group(1)) / 1024 for name in ("VmRSS", "VmHWM")]


class Streaming(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node()
        cls.addClassCleanup(cls.node.stop)
        cls.api = cls.node.client()
        for handler in ("handler", "marked", "hasty", "whole"):
            cls.api.create_function(
                FunctionName=handler,
                Runtime="nodejs20.x",
                Role=ROLE,
                Handler=f"app.{handler}",
                Code={"ZipFile": package(SOURCE, "app.js")},
                Timeout=20,
                MemorySize=256,
            )

    def stream(self, name="handler", log=False, **event):
        options = {"LogType": "Tail"} if log else {}
        answer = self.api.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event), **options)
        events = list(answer["EventStream"])
        body = b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1])
        return body, events[-1]["InvokeComplete"]

    def failure(self, name="handler", **event):
        body, complete = self.stream(name, **event)
        self.assertEqual(complete["ErrorCode"], "Unhandled")
        return body, json.loads(complete["ErrorDetails"])

    def test_parts_arrive_when_they_are_written(self):
        answer = self.api.invoke_with_response_stream(
            FunctionName="handler", Payload=json.dumps({"act": "parts", "parts": ["a", "b", "c"], "pause": 200})
        )
        arrived = [(time.monotonic(), event) for event in answer["EventStream"]]
        self.assertEqual([event["PayloadChunk"]["Payload"] for _, event in arrived[:3]], [b"a", b"b", b"c"])
        self.assertEqual(arrived[3][1], {"InvokeComplete": {}})
        self.assertGreater(arrived[2][0] - arrived[0][0], 0.3)

    def test_what_can_be_written(self):
        self.assertEqual(self.stream(act="ends_with"), (b"last words", {}))
        self.assertEqual(self.stream(act="nothing"), (b"", {}))
        self.assertEqual(self.stream(act="objects"), (b'{"a":1}B', {}))
        self.assertEqual(self.stream(act="piped"), (b"one two three", {}))
        self.assertEqual(self.stream("marked", act="mark"), (b"1234", {}))
        body, complete = self.stream(act="http")
        metadata, rest = body.split(bytes(8))
        self.assertEqual((json.loads(metadata)["statusCode"], rest, complete), (201, b"<p>text</p>", {}))
        body, _ = self.stream(act="context")
        context = json.loads(body)
        self.assertTrue(context["left"])
        self.assertIn("callbackWaitsForEmptyEventLoop", context["keys"])
        self.assertNotIn("succeed", context["keys"])

    def test_instances_serve_on(self):
        counts = [int(self.stream(act="count")[0]) for _ in range(5)]
        self.assertGreater(max(counts), 1)

    def test_failures(self):
        body, error = self.failure(act="throws")
        self.assertEqual((body, error["errorType"], error["errorMessage"]), (b"", "TypeError", "at once"))
        body, error = self.failure(act="throws_late")
        self.assertEqual((body, error["errorType"], error["errorMessage"]), (b"half", "TypeError", "in the middle"))
        body, error = self.failure(act="never_ends")
        self.assertEqual((body, error["errorMessage"]), (b"half", "Response stream is not finished."))
        body, error = self.failure(act="exits")
        self.assertEqual((body, error["errorType"]), (b"half", "Runtime.ExitError"))
        body, error = self.failure(act="crashes")
        self.assertEqual((body, error["errorMessage"]), (b"half", "uncaught"))
        _, error = self.failure(act="late_type")
        self.assertEqual(error["errorType"], "Runtime.InvalidStreamingOperation")
        _, error = self.failure("hasty")
        self.assertEqual(error["errorMessage"], "Streaming does not support non-async handlers.")
        body, complete = self.stream(act="returns", log=True)
        self.assertEqual(body, b"ok")
        self.assertIn("Streaming handlers ignore return values.", base64.b64decode(complete["LogResult"]).decode())

    def test_time_runs_out(self):
        self.api.update_function_configuration(FunctionName="marked", Timeout=1)
        self.addCleanup(self.api.update_function_configuration, FunctionName="marked", Timeout=20)
        body, error = self.failure("marked", act="sleeps")
        self.assertEqual((body, error["errorType"]), (b"half", "Sandbox.Timedout"))

    def test_whoever_invokes_gets_it_whole(self):
        def invoke(**event):
            answer = self.api.invoke(FunctionName="handler", Payload=json.dumps(event))
            return answer["Payload"].read(), answer.get("FunctionError")

        self.assertEqual(invoke(act="piped"), (b"one two three", None))
        body, failed = invoke(act="throws_late")
        self.assertEqual((json.loads(body)["errorMessage"], failed), ("in the middle", "Unhandled"))
        body, failed = invoke(act="big", mib=5)
        self.assertGreater(len(body), 5 << 20)
        body, failed = invoke(act="big", mib=7)
        self.assertEqual((json.loads(body)["errorType"], failed), ("Function.ResponseSizeTooLarge", "Unhandled"))

    def url(self, name, mode):
        created = self.api.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode=mode)
        self.addCleanup(self.api.delete_function_url_config, FunctionName=name)
        identifier = re.match(r"http://(\w+)\.", created["FunctionUrl"]).group(1)
        return f"/_aws/lambda-url/{identifier}/"

    def get(self, path):
        connection = http.client.HTTPConnection(self.node.endpoint.removeprefix("http://"), timeout=30)
        self.addCleanup(connection.close)
        connection.request("GET", path)
        return connection.getresponse()

    def test_a_url_that_streams(self):
        path = self.url("handler", "RESPONSE_STREAM")
        answer = self.get(f"{path}?act=http&pause=300")
        began = time.monotonic()
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (201, "text/html"))
        self.assertEqual(answer.headers["X-Own"], "yes")
        self.assertEqual(answer.headers["Transfer-Encoding"], "chunked")
        self.assertEqual(answer.headers.get_all("Set-Cookie"), ["a=1", "b=2"])
        self.assertEqual(answer.read1(), b"<p>")
        self.assertLess(time.monotonic() - began, 0.2)
        self.assertEqual(answer.read(), b"text</p>")
        answer = self.get(f"{path}?act=piped")
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "text/plain"))
        self.assertEqual(answer.read(), b"one two three")
        self.assertEqual(self.get(f"{path}?act=ends_with").headers["Content-Type"], "application/octet-stream")
        answer = self.get(f"{path}?act=throws")
        self.assertEqual((answer.status, answer.read()), (502, b"Internal Server Error"))
        for which in ("number", "text", "long"):
            self.assertEqual(self.get(f"{path}?act=odd&which={which}").status, 502)
        with self.assertRaises(http.client.IncompleteRead) as cut:
            self.get(f"{path}?act=throws_late").read()
        self.assertEqual(cut.exception.partial, b"half")

    def test_urls_and_answers_of_the_other_kind(self):
        answer = self.get(self.url("handler", "BUFFERED") + "?act=piped")
        self.assertEqual((answer.status, answer.read()), (200, b"one two three"))
        self.assertIsNotNone(answer.headers["Content-Length"])
        answer = self.get(self.url("whole", "RESPONSE_STREAM"))
        self.assertEqual((answer.status, json.loads(answer.read())), (200, {"statusCode": 418, "body": "whole"}))
        answer = self.get("/f/handler/?act=http")
        self.assertEqual((answer.status, answer.read()), (201, b"<p>text</p>"))
        answer = self.get("/f/whole/")
        self.assertEqual((answer.status, answer.read()), (418, b"whole"))

    def test_200_mb_take_no_memory_and_their_first_byte_no_time(self):
        gateway = self.node.roles()["gateway"]
        self.get("/f/handler/?act=big&mib=1").read()
        before, _ = memory(gateway)
        latencies = []
        for _ in range(10):
            answer = self.get("/f/handler/?act=big&mib=1&pause=50")
            first = answer.readline()
            latencies.append((time.monotonic_ns() - int(first)) / 1e6)
            answer.read()
        self.assertLess(sorted(latencies)[5], 5, f"ms to the first byte: {latencies}")
        answer = self.get("/f/handler/?act=big&mib=199")
        answer.readline()
        length = 0
        while part := answer.read(1 << 20):
            length, last = length + len(part), part
        self.assertGreater(length, 199 << 20)
        _, peak = memory(gateway)
        self.assertLess(peak - before, 24, "MiB that the gateway has grown by")
        told = json.loads(last.splitlines()[-1])
        self.assertLess(told["rss"] / (1 << 20), 130, "MiB of the instance")
        print(f"first byte p50 {sorted(latencies)[5]:.2f} ms; gateway +{peak - before:.1f} MiB; {told}")

    def test_a_worker_that_is_killed_ends_its_streams(self):
        with Node() as node:
            api = node.client()
            api.create_function(
                FunctionName="f", Runtime="nodejs20.x", Role=ROLE, Handler="app.handler", Timeout=60,
                Code={"ZipFile": package(SOURCE, "app.js")},
            )
            event = json.dumps({"act": "sleeps"})
            stream = api.invoke_with_response_stream(FunctionName="f", Payload=event)["EventStream"]
            events = iter(stream)
            self.assertEqual(next(events)["PayloadChunk"]["Payload"], b"half")
            connection = http.client.HTTPConnection(node.endpoint.removeprefix("http://"), timeout=30)
            self.addCleanup(connection.close)
            connection.request("GET", "/f/f/?act=sleeps")
            answer = connection.getresponse()
            self.assertEqual(answer.read1(), b"half")
            os.kill(node.roles()["worker"], signal.SIGKILL)
            complete = next(events)["InvokeComplete"]
            self.assertEqual(complete["ErrorCode"], "ServiceException")
            self.assertIn("worker", complete["ErrorDetails"])
            with self.assertRaises(http.client.IncompleteRead):
                answer.read()
            again = api.invoke(FunctionName="f", Payload=json.dumps({"act": "ends_with"}))
            self.assertEqual(again["Payload"].read(), b"last words")

    def test_many_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            lengths = list(pool.map(lambda i: len(self.stream(act="big", mib=2, size=1000 + i * 7919)[0]), range(40)))
        self.assertTrue(all(length > 2 << 20 for length in lengths), lengths)

    def test_more_than_the_limit_is_cut_off(self):
        body, error = self.failure(act="big", mib=201)
        self.assertEqual(error["errorType"], "Function.ResponseSizeTooLarge")
        self.assertLessEqual(len(body), 200 << 20)

    def test_a_function_waits_for_a_slow_client_and_not_for_one_that_is_gone(self):
        host, port = self.node.endpoint.removeprefix("http://").split(":")
        slow = socket.create_connection((host, int(port)))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /f/handler/?act=big&mib=100 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue(slow.recv(100))

        def busy():
            with urllib.request.urlopen(f"{self.node.endpoint}/v1/node") as answer:
                return json.load(answer)["concurrency"]["busy"]

        never = time.monotonic() + 1
        while time.monotonic() < never:
            self.assertEqual(busy(), 1, "the function does not wait")
        slow.close()
        eventually(lambda: busy() == 0, "the function goes on to its end")
        self.assertEqual(self.stream(act="ends_with"), (b"last words", {}))


if __name__ == "__main__":
    unittest.main()
