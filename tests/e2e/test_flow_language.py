"""Flows in the flow language: deployed, run by both APIs and by hand, failing, waited for and not, ended, drawn."""

import base64
import http.client
import json
import pathlib
import tempfile
import unittest
import urllib.parse
import uuid

from harness import Node, eventually, lichen, zip_of

SPLIT = """
def handler(event, context):
    lines = [line for item in event["sets"]["text"] for line in item["text"].splitlines() if line]
    return {"sets": {"chunks": [{"name": f"{place:05}", "text": line} for place, line in enumerate(lines)]}}
"""
COUNT = """
import collections
import zlib
def handler(event, context):
    stop = {item["text"].strip() for item in event["sets"]["stop"]}
    [chunk] = event["sets"]["chunk"]
    if "BREAK" in chunk["text"]:
        raise ValueError(chunk["text"])
    words = collections.Counter(word for word in chunk["text"].split() if word not in stop)
    pairs = [{"name": word, "key": zlib.crc32(word.encode()), "text": str(count)} for word, count in words.items()]
    return {"sets": {"pairs": pairs}}
"""
SUM = """
exports.handler = async (event) => {
  const pairs = event.sets.pairs;
  const total = pairs.reduce((sum, pair) => sum + Number(pair.text), 0);
  return { sets: { totals: [{ name: pairs[0].name, text: String(total) }] } };
};
"""
PLAIN = "def handler(event, context):\n    return sorted(item['name'] for item in event['sets']['x'])\n"
STUCK = "import time\ndef handler(event, context):\n    time.sleep(60)\n"
FLOW = """
// Words of a text, counted in parallel.
set Stop = "the", file "stop.txt";
flow words(Text) => (Totals, Broken) {
    $split(text = all Text) => (Chunks = chunks);
    $count(chunk = each Chunks, stop = all Stop) => (Pairs = pairs) on error => Broken;
    $sum(pairs = keyed Pairs) => (Totals = totals);
}
"""
TEXT = "the cat and the dog\nand a cat\n\na dog a dog\n"


def call(node, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(node.endpoint.removeprefix("http://"), timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


def deployed(api, code, is_node=False, name=None):
    """A function of one file; names begin with a letter, as the language has them."""
    name = name or f"f{uuid.uuid4().hex[:8]}"
    api.create_function(
        FunctionName=name,
        Runtime="nodejs20.x" if is_node else "python3.11",
        Handler="index.handler" if is_node else "app.handler",
        Role="arn:aws:iam::000000000000:role/test",
        Code={"ZipFile": zip_of({"index.js" if is_node else "app.py": code})},
        Timeout=30,
    )
    api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    return name


class FlowLanguage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())
        cls.api = cls.node.client()
        cls.names = {
            "split": deployed(cls.api, SPLIT),
            "count": deployed(cls.api, COUNT),
            "sum": deployed(cls.api, SUM, is_node=True),
            "plain": deployed(cls.api, PLAIN),
            "stuck": deployed(cls.api, STUCK),
        }
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "stop.txt").write_text("and\n")
        (cls.folder / "words.flow").write_text(cls.text(FLOW))
        cls.file = cls.folder / "words.flow"
        done = lichen("flow", "deploy", cls.file, endpoint=cls.node.endpoint)
        assert done.returncode == 0, done.stderr

    @classmethod
    def text(cls, text):
        for short, name in cls.names.items():
            text = text.replace(f"${short}", name)
        return text

    def put(self, text, **spec):
        name = f"flow{uuid.uuid4().hex[:8]}"
        return name, *self.put_as(name, text, **spec)

    def put_as(self, name, text, **spec):
        body = json.dumps({"name": name, "text": self.text(text), **spec})
        status, answer, _ = call(self.node, "POST", "/v1/flows", body)
        return status, json.loads(answer)

    def totals(self, sets):
        return {item["name"]: int(item["text"]) for item in sets["Totals"]}

    def test_words_are_counted_in_python_and_node(self):
        done = lichen("flow", "invoke", "words", "--set", f"Text={TEXT}", endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 0, done.stderr)
        sets = json.loads(done.stdout)["sets"]
        self.assertEqual(self.totals(sets), {"a": 3, "cat": 2, "dog": 3})
        self.assertEqual(sets["Broken"], [])

    def test_the_order_of_outputs_is_the_same_in_every_run(self):
        bodies = {call(self.node, "POST", "/v1/flows/words/invoke", TEXT)[1] for _ in range(5)}
        self.assertEqual(len(bodies), 1)

    def test_errors_are_handed_on_as_items(self):
        status, body, headers = call(self.node, "POST", "/v1/flows/words/invoke", TEXT + "BREAK it\n")
        self.assertEqual((status, headers["x-amz-function-error"]), (200, None))
        [broken] = json.loads(body)["sets"]["Broken"]
        self.assertEqual((broken["name"], json.loads(broken["text"])["errorMessage"]), ("00003", "BREAK it"))

    def test_shards_that_fail_are_skipped(self):
        text = "flow f(T, S) => (P) { $count(chunk = each T, stop = all S) => (P = pairs) on error skip; }"
        name, status, shown = self.put(text)
        self.assertEqual(status, 200, shown)
        for chunks, expected in [(["BREAK it", "a b c", "BREAK"], ["a", "c"]), (["BREAK"], [])]:
            body = json.dumps({"sets": {"T": chunks, "S": ["b"]}})
            status, answer, headers = call(self.node, "POST", f"/v1/flows/{name}/invoke", body)
            self.assertEqual((status, headers["x-amz-function-error"]), (200, None), answer)
            self.assertEqual([item["name"] for item in json.loads(answer)["sets"]["P"]], expected)

    def test_an_error_that_nobody_takes_ends_the_run(self):
        name, status, shown = self.put("flow f(T) => (P) { $count(chunk = each T, stop = all T) => (P = pairs); }")
        self.assertEqual(status, 200, shown)
        status, body, headers = call(self.node, "POST", f"/v1/flows/{name}/invoke", "BREAK")
        error = json.loads(body)
        self.assertEqual((status, headers["x-amz-function-error"]), (200, "Unhandled"))
        self.assertEqual((error["errorType"], error["application"], error["line"]), ("ValueError", self.names["count"], 1))
        done = lichen("flow", "invoke", name, "--set", "T=BREAK", endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 1, done.stderr)

    def test_lambda_invokes_a_flow_by_its_name(self):
        name, status, shown = self.put("flow f(T) => (R) { $plain(x = all T) => (R = r); }")
        self.assertEqual(status, 200, shown)
        event = json.dumps({"sets": {"T": [{"name": "b", "text": ""}, {"name": "a", "data": "/w=="}]}})
        reply = self.api.invoke(FunctionName=name, Payload=event)
        self.assertEqual(json.loads(reply["Payload"].read()), ["a", "b"])
        self.assertEqual(reply["ExecutedVersion"], "$LATEST")
        self.assertEqual(self.api.invoke(FunctionName=name, Payload=event, InvocationType="Event")["StatusCode"], 202)
        self.assertEqual(self.api.invoke(FunctionName=name, Payload=event, InvocationType="DryRun")["StatusCode"], 204)
        with self.assertRaises(self.api.exceptions.InvalidRequestContentException):
            self.api.invoke(FunctionName=name, Payload=b"no JSON")
        place = "arn:aws:lambda:us-east-1:000000000000"
        for meant in (f"{name}:$LATEST", f"{place}:function:{name}", f"000000000000:function:{name}", f"{place}:flow:{name}"):
            self.assertEqual(self.api.invoke(FunctionName=meant, Payload=event)["StatusCode"], 200, meant)
        self.assertEqual(self.api.invoke(FunctionName=name, Payload=event, Qualifier="$LATEST")["StatusCode"], 200)
        elsewhere = "arn:aws:lambda:us-east-1:111111111111:flow"
        # Flows have no versions and no aliases: who asks for one does not get another one.
        for missing in (f"no-{uuid.uuid4().hex[:8]}", f"{name}:1", f"{name}:live", f"{place}:function:{name}:live", f"{elsewhere}:{name}"):
            with self.assertRaises(self.api.exceptions.ResourceNotFoundException, msg=missing):
                self.api.invoke(FunctionName=missing, Payload=b"{}")
        with self.assertRaises(self.api.exceptions.ResourceNotFoundException):
            self.api.invoke(FunctionName=name, Payload=b"{}", Qualifier="live", InvocationType="Event")

    def test_shards_wait_for_a_function_that_may_run_once_at_a_time(self):
        function = deployed(self.api, PLAIN)
        text = f"flow f(T) => (R) {{ {function}(x = each T) => (R = r); }}"
        name = f"f{uuid.uuid4().hex[:8]}"
        body = json.dumps({"name": name, "text": text, "timeout_s": 5})
        self.assertEqual(call(self.node, "POST", "/v1/flows", body)[0], 200)
        self.api.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=1)
        items = [{"name": str(place), "text": ""} for place in range(300)]
        status, answer, _ = call(self.node, "POST", f"/v1/flows/{name}/invoke", json.dumps({"sets": {"T": items}}))
        self.assertEqual((status, len(json.loads(answer)["sets"]["R"])), (200, 300), answer[:200])

    def test_faults_come_back_with_their_places(self):
        _, status, answer = self.put("flow f(T) => (R) {\n $plain(x = all U) => (R = r);\n nothere(x = all T) => (S = r);\n}")
        self.assertEqual(status, 400)
        places = [(found["line"], found["severity"]) for found in answer["diagnostics"]]
        self.assertEqual([place for place in places if place[1] == "error"], [(2, "error"), (3, "error")])
        self.assertIn("nobody makes the set `U`", answer["message"])
        bad = self.folder / "bad.flow"
        bad.write_text("flow f(A) => (B) {\n  g(x = A) => (B = b);\n}\n")
        done = lichen("flow", "check", bad)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("bad.flow:2:9", done.stderr)
        self.assertEqual(json.loads(lichen("flow", "check", bad, "-o", "json").stdout)[0]["column"], 9)
        self.assertEqual(lichen("flow", "check", self.file).returncode, 0)
        online = lichen("flow", "check", self.file, "--online", endpoint=self.node.endpoint)
        self.assertEqual(online.returncode, 0, online.stderr)

    def test_unknown_inputs_and_wrong_sets_are_refused(self):
        for body, said in [('{"sets": {"Tex": ["x"]}}', "no set 'Tex'"), ('{"sets": {"Text": 5}}', "list of items")]:
            status, answer, _ = call(self.node, "POST", "/v1/flows/words/invoke", body)
            self.assertEqual(status, 400, answer)
            self.assertIn(said, json.loads(answer)["message"])

    def test_a_flow_and_a_function_have_different_names(self):
        body = json.dumps({"name": self.names["plain"], "text": "flow f(A) => (A) {}"})
        status, answer, _ = call(self.node, "POST", "/v1/flows", body)
        self.assertEqual((status, "There is a function" in answer.decode()), (409, True))
        name, status, _ = self.put("flow f(T) => (T) {}")
        self.assertEqual(status, 200)
        with self.assertRaises(self.api.exceptions.ResourceConflictException) as refused:
            deployed(self.api, PLAIN, name=name)
        self.assertIn("There is a flow", str(refused.exception))
        self.assertEqual(lichen("flow", "rm", name, endpoint=self.node.endpoint).returncode, 0)
        deployed(self.api, PLAIN, name=name)

    def test_bodies_are_forms_bytes_and_sets(self):
        name, status, shown = self.put("flow f(A, B) => (A, B) {}")
        self.assertEqual(status, 200, shown)
        path = f"/v1/flows/{name}/invoke"
        part = 'Content-Disposition: form-data; name="{}"; filename="{}"\r\nItem-Key: {}\r\n\r\n{}\r\n'
        parts = [part.format("A", "x.txt", 7, "one"), part.format("B", "y", 0, "two"), part.format("A", "z", 0, "")]
        form = "--b\r\n" + "--b\r\n".join(parts) + "--b--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        status, answer, _ = call(self.node, "POST", path, form, kind)
        item = lambda name, key, text: {"name": name, "key": key, "text": text}  # noqa: E731
        whole = {"sets": {"A": [item("x.txt", 7, "one"), item("z", 0, "")], "B": [item("y", 0, "two")]}}
        self.assertEqual((status, json.loads(answer)), (200, whole))
        status, answer, headers = call(self.node, "POST", path, form, {**kind, "Accept": "multipart/form-data"})
        again = call(self.node, "POST", path, answer, {"Content-Type": headers["content-type"]})
        self.assertEqual(json.loads(again[1]), whole)
        # The same, not waited for: the result has all the forms that an answer has.
        run = json.loads(call(self.node, "POST", f"{path}?async", form, kind)[1])["run"]
        done = lichen("flow", "result", run, "--wait", endpoint=self.node.endpoint)
        self.assertEqual(json.loads(done.stdout), whole)
        accepted = call(self.node, "GET", f"/v1/runs/{run}/result", headers={"Accept": "multipart/form-data"})
        self.assertTrue(accepted[2]["content-type"].startswith("multipart/form-data"))
        for data, kind in [(b"\xff\x00", "application/octet-stream"), (b"[1]", "application/json"), ("é".encode(), "text/plain; charset=utf-8")]:
            _, answer, headers = call(self.node, "POST", path, data)
            self.assertEqual((answer, headers["content-type"]), (data, kind))
        answer = call(self.node, "POST", f"{path}?as=sets", b"x")[1]
        self.assertEqual(json.loads(answer)["sets"]["A"], [item("body", 0, "x")])
        self.assertEqual(json.loads(call(self.node, "POST", path, b"x", {"Accept": "application/json"})[1])["sets"]["B"], [])
        self.assertEqual(call(self.node, "POST", path, "--b", {"Content-Type": "multipart/form-data; boundary=b"})[0], 400)

    def test_long_bodies_and_answers(self):
        name, status, shown = self.put("flow f(A) => (A, B) { set B = \"x\"; }")
        self.assertEqual(status, 200, shown)
        path = f"/v1/flows/{name}/invoke"
        # More than a function takes, and less than a run may hold.
        data = b"\xff" * (20 << 20)
        answer = json.loads(call(self.node, "POST", path, data)[1])["sets"]["A"]
        self.assertEqual(base64.b64decode(answer[0]["data"]), data)
        # Of a body whose length nobody knows beforehand less is taken.
        pieces = (bytes(1 << 20) for _ in range(7))
        self.assertEqual(call(self.node, "POST", path, pieces)[0], 413)

    def test_flows_apply_flows_that_were_deployed_by_themselves(self):
        inner, status, shown = self.put("flow f(X) => (R) { $plain(x = all X) => (R = r); }")
        self.assertEqual(status, 200, shown)
        text = f"flow f(T) => (A, B) {{ {inner}(X = each T) => (A = R); {inner}(X = all T) => (B = R); }}"
        outer, status, shown = self.put(text)
        self.assertEqual(status, 200, shown)
        sets = json.dumps({"sets": {"T": [{"name": "b", "text": ""}, {"name": "a", "text": ""}]}})
        run = lambda: json.loads(call(self.node, "POST", f"/v1/flows/{outer}/invoke", sets)[1])  # noqa: E731
        answers = lambda name: [json.loads(item["text"]) for item in run()["sets"][name]]  # noqa: E731
        self.assertEqual((answers("A"), answers("B")), ([["b"], ["a"]], [["a", "b"]]))
        # A change of it is there with the next run.
        self.put_as(inner, "flow f(X) => (R) { set S = \"s\"; $plain(x = all S, y = all X) => (R = r); }")
        self.assertEqual(answers("B"), [["0"]])
        # One that does not fit any more is said to be that; so is one that is gone.
        self.put_as(inner, "flow f(Y) => (R) { $plain(x = all Y) => (R = r); }")
        self.assertIn("does not fit the flows", run()["message"])
        _, status, shown = self.put(text)
        self.assertEqual((status, "takes no set `X`" in shown["message"]), (400, True))
        circle = f"flow f(X) => (R) {{ {outer}(T = all X) => (R = A); }}"
        status, shown = self.put_as(inner, circle)
        self.assertEqual((status, "cannot be applied here" in shown["message"]), (400, True))
        self.assertEqual(lichen("flow", "rm", inner, endpoint=self.node.endpoint).returncode, 0)
        self.assertIn(inner, run()["Message"])

    def test_a_run_that_nobody_waits_for(self):
        begun = lichen("flow", "invoke", "words", "--async", "--set", f"Text={TEXT}", endpoint=self.node.endpoint)
        run = begun.stdout.strip()
        self.assertEqual(len(run), 36, begun.stderr)
        done = lichen("flow", "result", run, "--wait", endpoint=self.node.endpoint)
        self.assertEqual(self.totals(json.loads(done.stdout)["sets"]), {"a": 3, "cat": 2, "dog": 3}, done.stderr)
        shown = json.loads(call(self.node, "GET", f"/v1/runs/{run}")[1])
        self.assertEqual(shown["state"], "done")
        self.assertEqual([app["done"] for app in shown["applications"]], [1, 3, 3])
        status, picture, headers = call(self.node, "GET", f"/v1/runs/{run}/graph")
        self.assertEqual((status, headers["content-type"]), (200, "image/svg+xml"))
        self.assertIn("3 shards", picture.decode())
        listed = lichen("flow", "runs", "words", endpoint=self.node.endpoint)
        self.assertIn(run, listed.stdout)

    def test_a_run_is_cancelled(self):
        name, status, shown = self.put("flow f(T) => (R) { $stuck(x = each T) => (R = r); }")
        self.assertEqual(status, 200, shown)
        _, body, _ = call(self.node, "POST", f"/v1/flows/{name}/invoke?async", '{"sets": {"T": ["1", "2"]}}')
        run = json.loads(body)["run"]

        def state():
            return json.loads(call(self.node, "GET", f"/v1/runs/{run}")[1])

        eventually(lambda: sum(app["running"] for app in state()["applications"]) == 2, "both shards run")
        self.assertEqual(call(self.node, "GET", f"/v1/runs/{run}/result")[0], 409)
        self.assertEqual(lichen("flow", "cancel", run, endpoint=self.node.endpoint).returncode, 0)
        eventually(lambda: state()["state"] == "cancelled", "the run ends")
        self.assertEqual(call(self.node, "DELETE", f"/v1/runs/{run}")[0], 409)

    def test_time_is_kept(self):
        name, _, _ = self.put("flow f(T) => (R) { $stuck(x = each T) => (R = r); }", timeout_s=1)
        _, body, headers = call(self.node, "POST", f"/v1/flows/{name}/invoke", "x")
        self.assertEqual((json.loads(body)["errorType"], headers["x-amz-function-error"]), ("Flow.Timeout", "Unhandled"))

    def test_pictures(self):
        offline = lichen("flow", "graph", self.file)
        online = lichen("flow", "graph", "words", endpoint=self.node.endpoint)
        self.assertEqual((offline.returncode, online.returncode), (0, 0), online.stderr)
        self.assertTrue(offline.stdout.startswith("<svg ") and "each Chunks" in offline.stdout)
        self.assertTrue(online.stdout.startswith("<svg "))

    def test_a_flow_is_changed_and_removed(self):
        name, _, first = self.put("flow f(T) => (T) {}")
        path = urllib.parse.quote(name)
        self.assertEqual(call(self.node, "POST", f"/v1/flows/{path}/invoke", "as it is")[1], b"as it is")
        body = json.dumps({"name": name, "text": self.text("flow f(T) => (R) { $plain(x = all T) => (R = r); }")})
        second = json.loads(call(self.node, "POST", "/v1/flows", body)[1])
        self.assertNotEqual(first["revision"], second["revision"])
        self.assertEqual(json.loads(call(self.node, "POST", f"/v1/flows/{path}/invoke", "x")[1]), ["body"])
        self.assertEqual(lichen("flow", "rm", name, endpoint=self.node.endpoint).returncode, 0)
        self.assertEqual(call(self.node, "POST", f"/v1/flows/{path}/invoke", "x")[0], 404)


if __name__ == "__main__":
    unittest.main()
