"""Flows that reach out: what `http` and `object_*` reach and what they do not, and functions of all kinds in one flow."""

import http.client
import json
import os
import tempfile
import threading
import unittest
import uuid

import shop
from harness import REPOSITORY, Node, eventually, lichen, zip_of

GUEST = REPOSITORY / ".build/guest"
ROLE = "arn:aws:iam::000000000000:role/test"

# Requests from paths; objects, and where they go, from parts: bytes that are no text go through JSON as base64.
ASK = """
def handler(event, context):
    paths = [item["text"] for item in event["sets"]["pages"]]
    named = [(path.strip("/").replace("/", "-"), path) for path in paths]
    return {"sets": {"requests": [{"name": name, "key": 7, "text": f"http://127.0.0.1:PORT{path}"} for name, path in named]}}
"""
RENDER = """
exports.handler = async (event) => {
  const bytes = (item) => (item.text !== undefined ? Buffer.from(item.text) : Buffer.from(item.data, "base64"));
  const objects = event.sets.parts.map((item) => ({
    name: item.name, key: item.key, data: Buffer.concat([Buffer.from("<"), bytes(item), Buffer.from(">")]).toString("base64"),
  }));
  const keys = objects.map((item) => ({ name: item.name, text: `data/out/${item.name} é.html` }));
  return { sets: { objects, keys } };
};
"""


def call(node, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(node.endpoint.removeprefix("http://"), timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


class Reaching(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        tls, trusted = shop.certificate(folder)
        cls.pages = cls.enterClassContext(shop.Server(shop.pages))
        cls.hidden = cls.enterClassContext(shop.Server(shop.pages))
        cls.store = shop.Store()
        cls.s3 = cls.enterClassContext(shop.Server(cls.store, tls))
        config = os.path.join(folder, "lichen.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                f'[fetch]\nallow = ["127.0.0.1:{cls.pages.port}"]\nbody_max = 65536\nredirects = 3\nlist_max = 3\n'
                f'buckets = ["data", "shared/open/"]\n[aws]\nregion = "{shop.REGION}"\naccess_key_id = "{shop.KEY}"\n'
                f'secret_access_key = "{shop.SECRET}"\nca_file = "{trusted}"\nretries = 0\n'
                f'[aws.endpoints]\ns3 = "https://localhost:{cls.s3.port}"\n'
            )
        cls.node = cls.enterClassContext(Node("--config", config))
        cls.api = cls.node.client()
        cls.put("fetch", "flow fetch(Q) => (B, S) { http(requests = all Q) => (B = bodies, S = status); }")
        cls.put("strict", "flow strict(Q) => (B) { http(requests = each Q) => (B = bodies); }")

    @classmethod
    def put(cls, name, text):
        status, answer, _ = call(cls.node, "POST", "/v1/flows", json.dumps({"name": name, "text": text}))
        if status != 200:
            raise AssertionError(answer)

    def run_flow(self, name, **sets):
        status, answer, headers = call(self.node, "POST", f"/v1/flows/{name}/invoke?as=sets", json.dumps({"sets": sets}))
        self.assertEqual(status, 200, answer)
        return json.loads(answer), headers["x-amz-function-error"]

    def fetched(self, *requests):
        """Of each request its body, or the word for what it came to."""
        answer, failed = self.run_flow("fetch", Q=list(requests))
        self.assertIsNone(failed, answer)
        bodies = {item["name"]: item.get("text", item.get("data")) for item in answer["sets"]["B"]}
        said = [json.loads(item["text"]) for item in answer["sets"]["S"]]
        self.assertEqual(len(said), len(requests))
        return [bodies[str(at)] if one["ok"] else one["error"] for at, one in enumerate(said)]

    def test_what_the_operator_allows_is_reached(self):
        here = f"http://127.0.0.1:{self.pages.port}"
        post = {"method": "POST", "url": f"{here}/echo", "json": {"a": [1]}}  # handed on as it was written
        found = self.fetched(f"{here}/page/1", f"GET http://localhost:{self.pages.port}/page/2", json.dumps(post), f"{here}/none")
        self.assertEqual(found, ["page 1\n" * 3, "page 2\n" * 3, '{"a": [1]}', "there is no such page"])
        [data] = self.fetched(f"{here}/bytes")
        self.assertTrue(data.startswith("AAECAwQF"), data)

    def test_everything_else_is_refused_however_it_is_written(self):
        port = self.hidden.port
        own = self.node.endpoint.rpartition(":")[2]
        refused = self.fetched(
            *(f"http://{host}:{port}/page/1" for host in ["127.0.0.1", "localhost", "127.1", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"]),
            f"http://127.0.0.1:{own}/v1/node", f"http://localhost:{own}/v1/node",
            "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://10.0.0.1/", "http://192.168.1.1/",
        )
        self.assertLessEqual(set(refused), {"Denied", "Resolve"}, refused)
        self.assertEqual(refused[:2] + refused[6:], ["Denied"] * 8)

    def test_redirects_are_requests_of_their_own(self):
        here = f"http://127.0.0.1:{self.pages.port}"
        there = [f"http://127.0.0.1:{self.hidden.port}/page/1", f"http://localhost:{self.hidden.port}/", "http://169.254.169.254/"]
        self.assertEqual(self.fetched(*(f"{here}/to/{url}" for url in there)), ["Denied"] * 3)
        self.assertEqual(self.fetched(f"{here}/to//page/9", f"{here}/round", f"{here}/to/gopher://x/"), ["page 9\n" * 3, "Redirect", "Redirect"])
        self.assertEqual(self.hidden.asked, [])

    def test_failures_end_a_flow_that_does_not_take_them(self):
        here = f"http://127.0.0.1:{self.pages.port}"
        error, failed = self.run_flow("strict", Q=[f"{here}/page/1", "http://10.1.2.3/"])
        self.assertEqual((failed, error["errorType"], error["application"]), ("Unhandled", "Fetch.Denied", "http"))
        self.assertEqual(self.fetched(f"{here}/long", "no request", "FETCH it"), ["TooLong", "Request", "Request"])

    def test_objects_are_signed_for_and_kept_to_their_buckets(self):
        self.put("keep", "flow keep(K, O) => (R, S) { object_put(keys = all K, objects = all O) => (R = results, S = status); }")
        self.put("get", "flow get(K) => (O, S) { object_get(keys = each K) => (O = objects, S = status); }")
        self.put("list", "flow list(P) => (O) { object_list(prefixes = all P) => (K = keys); object_get(keys = each K) => (O = objects); }")
        names = {"a": "data/sub folder/ä+b", "b": "s3://shared/open/x", "c": "shared/closed", "d": "other/x", "e": "data/../other/x"}
        keys = [{"name": name, "text": key} for name, key in names.items()]
        objects = [{"name": name, "data": "AP8="} for name in names]
        answer, _ = self.run_flow("keep", K=keys, O=objects)
        said = [json.loads(item["text"]) for item in answer["sets"]["S"]]
        self.assertEqual([one.get("error") for one in said], [None, None, "Denied", "Denied", "Request"])
        kept = {place: data for place, data in self.store.objects.items() if not place[1].startswith("out/")}
        self.assertEqual(kept, {("data", "sub folder/ä+b"): b"\0\xff", ("shared", "open/x"): b"\0\xff"})
        answer, _ = self.run_flow("get", K=["data/sub folder/ä+b", "data/none", "other/x"])
        self.assertEqual([item["data"] for item in answer["sets"]["O"]], ["AP8="])
        self.assertEqual([json.loads(item["text"]).get("error") for item in answer["sets"]["S"]], [None, "Store", "Denied"])
        answer, _ = self.run_flow("list", P=["data/sub"])
        self.assertEqual([item["data"] for item in answer["sets"]["O"]], ["AP8="])
        self.assertEqual(self.store.refused, [])

    def test_objects_are_stored_where_it_is_said_and_lists_are_whole(self):
        self.put("keepall", "flow keepall(K, O) => (S) { object_put(keys = all K, objects = all O) => (S = status); }")
        self.put("read", "flow read(K) => (O, S) { object_get(keys = each K) => (O = objects, S = status); }")
        self.put("names", "flow names(P) => (K, S) { object_list(prefixes = all P) => (K = keys, S = status); }")
        said = lambda answer: [json.loads(item["text"]).get("error") for item in answer["sets"]["S"]]
        keys = [{"name": "x", "key": key, "text": f"data/same/{key}"} for key in (1, 2)]
        objects = [{"name": "x", "key": key, "text": str(key)} for key in (1, 2, 3)]
        answer, _ = self.run_flow("keepall", K=keys, O=objects)
        self.assertEqual(said(answer), [None, None, "Request"])
        self.assertEqual([self.store.objects["data", f"same/{key}"] for key in (1, 2)], [b"1", b"2"])
        for name in ("a", "b", "c"):
            self.store.objects["data", f"three/{name}"] = b""
        answer, _ = self.run_flow("names", P=["data/three/"])
        self.assertEqual((len(answer["sets"]["K"]), said(answer)), (3, [None]))
        self.store.objects["data", "three/d"] = bytes(70_000)
        answer, _ = self.run_flow("names", P=["data/three/"])
        self.assertEqual((answer["sets"]["K"], said(answer)), ([], ["TooLong"]))
        answer, _ = self.run_flow("read", K=["data/three/d"])
        self.assertEqual((answer["sets"]["O"], said(answer)), ([], ["TooLong"]))

    def test_all_kinds_of_functions_in_one_flow(self):
        names = {"ask": self.handler(ASK.replace("PORT", str(self.pages.port))), "render": self.handler(RENDER, is_node=True)}
        names |= {"wasm": self.guest("echo.wasm", "wasm"), "native": self.guest("echo.elf", "native")}
        text = """
            flow press(Pages) => (Results, Left) {
                $ask(pages = anyEach Pages) => (Requests = requests);
                http(requests = each Requests) => (Bodies = bodies);
                $wasm(in = each Bodies) => (Once = out);
                $native(in = keyed Once) => (Again = out);
                $render(parts = all Again) => (Objects = objects, Keys = keys);
                object_put(keys = all Keys, objects = all Objects) => (Results = results);
                object_get(keys = each Gone) => (Never = objects, Left = status);
                set Gone = "data/out/none";
            }
        """
        for short, name in names.items():
            text = text.replace(f"${short}(", f"{name}(")
        self.put("press", text)
        answer, failed = self.run_flow("press", Pages=["/page/1", "/bytes", "/page/2"])
        self.assertIsNone(failed, answer)
        self.assertEqual([item["name"] for item in answer["sets"]["Results"]], ["page-1", "bytes", "page-2"])
        stored = {key: self.store.objects["data", f"out/{key} é.html"] for key in ("page-1", "bytes", "page-2")}
        self.assertEqual(stored, {"page-1": b"<" + b"page 1\n" * 3 + b">", "bytes": b"<" + bytes(range(256)) + b">", "page-2": b"<" + b"page 2\n" * 3 + b">"})
        self.assertFalse(json.loads(answer["sets"]["Left"][0]["text"])["ok"])

    def handler(self, code, is_node=False):
        name = f"f{uuid.uuid4().hex[:8]}"
        self.api.create_function(
            FunctionName=name, Runtime="nodejs20.x" if is_node else "python3.11", Handler="index.handler" if is_node else "app.handler",
            Role=ROLE, Code={"ZipFile": zip_of({"index.js" if is_node else "app.py": code})}, Timeout=30,
        )
        return name

    def guest(self, file, kind):
        if not (GUEST / file).exists():
            self.skipTest(f"{file} was not built: `make guest` says what it lacks")
        name = f"f{uuid.uuid4().hex[:8]}"
        done = lichen("deploy", GUEST / file, "--name", name, "--runtime", kind, "--inputs", "in", "--outputs", "out", endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 0, done.stderr)
        return name


class Limits(unittest.TestCase):
    """A node that bears little."""

    @classmethod
    def setUpClass(cls):
        cls.gate = threading.Event()
        cls.server = cls.enterClassContext(shop.Server(cls.wait))
        config = os.path.join(cls.enterClassContext(tempfile.TemporaryDirectory()), "lichen.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'[flows]\nruns = 1\nshards_max = 4\nrun_mib = 1\n[fetch]\nallow = ["127.0.0.1:{cls.server.port}"]\n')
        cls.node = cls.enterClassContext(Node("--config", config))
        text = "flow ask(Q) => (B) { http(requests = each Q) => (B = bodies); }"
        status, answer, _ = call(cls.node, "POST", "/v1/flows", json.dumps({"name": "ask", "text": text}))
        if status != 200:
            raise AssertionError(answer)

    @classmethod
    def wait(cls, asked, body):
        if asked.path == "/wait":
            cls.gate.wait(60)
        return 200, {}, b"here"

    def ask(self, *requests):
        return call(self.node, "POST", "/v1/flows/ask/invoke", json.dumps({"sets": {"Q": list(requests)}}))

    def runs(self):
        return json.loads(call(self.node, "GET", "/v1/flows/ask/runs")[1])

    def test_shards_and_items_are_bounded(self):
        url = f"http://127.0.0.1:{self.server.port}/"
        self.assertEqual(len(json.loads(self.ask(*[url] * 4)[1])["sets"]["B"]), 4)
        self.assertEqual(json.loads(self.ask(*[url] * 5)[1])["errorType"], "Flow.TooManyShards")
        self.assertEqual(json.loads(self.ask("x" * (2 << 20))[1])["errorType"], "Flow.TooMuch")

    def test_who_goes_away_ends_his_run_and_others_wait_their_turn(self):
        self.gate.clear()
        self.addCleanup(self.gate.set)
        connection = http.client.HTTPConnection(self.node.endpoint.removeprefix("http://"), timeout=60)
        connection.request("POST", "/v1/flows/ask/invoke", f"http://127.0.0.1:{self.server.port}/wait")
        eventually(lambda: "GET /wait" in self.server.asked, "the run waits for its answer")
        [run] = [run for run in self.runs() if run["state"] == "running"]
        status, answer, headers = self.ask(f"http://127.0.0.1:{self.server.port}/")
        self.assertEqual((status, headers["x-amzn-errortype"]), (429, "TooManyRequestsException"), answer)
        connection.close()
        state = lambda: json.loads(call(self.node, "GET", f"/v1/runs/{run['run']}")[1])["state"]  # noqa: E731
        eventually(lambda: state() == "cancelled", "the run ends with its client")
        self.assertEqual(self.ask(f"http://127.0.0.1:{self.server.port}/")[1], b"here")


if __name__ == "__main__":
    unittest.main()
