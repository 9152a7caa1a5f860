// AWS's JavaScript client, unmodified, with nothing but an endpoint URL: a function from creation to deletion.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import {
  CreateFunctionCommand,
  DeleteFunctionCommand,
  GetFunctionCommand,
  InvokeCommand,
  InvokeWithResponseStreamCommand,
  LambdaClient,
  ListFunctionsCommand,
  ResourceNotFoundException,
  UpdateFunctionCodeCommand,
  UpdateFunctionConfigurationCommand,
  waitUntilFunctionActiveV2,
  waitUntilFunctionUpdatedV2,
} from "@aws-sdk/client-lambda";

const client = new LambdaClient({
  endpoint: process.env.LICHEN_ENDPOINT ?? "http://127.0.0.1:9000",
  region: "us-east-1",
  credentials: { accessKeyId: "test", secretAccessKey: "test" },
  maxAttempts: 1,
});
const FunctionName = `sdk-${process.pid}-${Date.now().toString(36)}`;
const patience = { client, maxWaitTime: 30, minDelay: 1 };
const folder = mkdtempSync(join(tmpdir(), "lichen-sdk-"));

after(() => {
  rmSync(folder, { recursive: true });
  client.destroy();
});

/** A zip file with one file in it. */
function pack(name, source) {
  const [file, zip] = [join(folder, name), join(folder, `${name}.zip`)];
  writeFileSync(file, source);
  const script = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[2], 'w') as z: z.write(sys.argv[1], sys.argv[3])";
  execFileSync("python3", ["-c", script, file, zip, name]);
  return readFileSync(zip);
}

async function invoke(event, options = {}) {
  const reply = await client.send(new InvokeCommand({ FunctionName, Payload: JSON.stringify(event), ...options }));
  return { ...reply, value: JSON.parse(Buffer.from(reply.Payload).toString() || "null") };
}

test("a function lives", async (t) => {
  const source = `exports.handler = async (event, context) => {
    console.log("hello", event.a);
    if (event.fail) throw new TypeError(event.fail);
    return { event, level: process.env.LEVEL, name: context.functionName, request: context.awsRequestId };
  };`;

  await t.test("it is created", async () => {
    const created = await client.send(
      new CreateFunctionCommand({
        FunctionName,
        Runtime: "nodejs20.x",
        Role: "arn:aws:iam::000000000000:role/test",
        Handler: "index.handler",
        Code: { ZipFile: pack("index.js", source) },
        Environment: { Variables: { LEVEL: "1" } },
      }),
    );
    assert.equal(created.State, "Pending");
    const active = await waitUntilFunctionActiveV2(patience, { FunctionName });
    assert.equal(active.state, "SUCCESS");
  });

  await t.test("it answers, with its log", async () => {
    const reply = await invoke({ a: ["ä"] }, { LogType: "Tail" });
    assert.deepEqual(reply.value.event, { a: ["ä"] });
    assert.equal(reply.value.level, "1");
    assert.equal(reply.value.name, FunctionName);
    assert.equal(reply.value.request, reply.$metadata.requestId);
    assert.equal(reply.ExecutedVersion, "$LATEST");
    const log = Buffer.from(reply.LogResult, "base64").toString();
    assert.match(log, /START RequestId: [\s\S]*\tINFO\thello[\s\S]*REPORT RequestId: /);
  });

  await t.test("its errors are errors of the function", async () => {
    const reply = await invoke({ fail: "on purpose" });
    assert.equal(reply.StatusCode, 200);
    assert.equal(reply.FunctionError, "Unhandled");
    assert.equal(reply.value.errorType, "TypeError");
    assert.equal(reply.value.errorMessage, "on purpose");
    assert.ok(Array.isArray(reply.value.trace));
  });

  await t.test("it is changed", async () => {
    const Environment = { Variables: { LEVEL: "2" } };
    await client.send(new UpdateFunctionConfigurationCommand({ FunctionName, Environment }));
    await waitUntilFunctionUpdatedV2(patience, { FunctionName });
    assert.equal((await invoke({})).value.level, "2");
    const ZipFile = pack("index.mjs", "export const handler = (event, context, done) => done(null, 'new');");
    await client.send(new UpdateFunctionCodeCommand({ FunctionName, ZipFile }));
    await waitUntilFunctionUpdatedV2(patience, { FunctionName });
    assert.equal((await invoke({})).value, "new");
  });

  await t.test("it streams", async () => {
    const source = `exports.handler = awslambda.streamifyResponse(async (event, stream) => {
      for (const part of event.parts) stream.write(part);
      if (event.fail) throw new RangeError(event.fail);
      stream.end();
    });`;
    await client.send(new UpdateFunctionCodeCommand({ FunctionName, ZipFile: pack("index.js", source) }));
    await waitUntilFunctionUpdatedV2(patience, { FunctionName });
    const stream = async (event) => {
      const command = new InvokeWithResponseStreamCommand({ FunctionName, Payload: JSON.stringify(event), LogType: "Tail" });
      const { EventStream, ExecutedVersion } = await client.send(command);
      assert.equal(ExecutedVersion, "$LATEST");
      const [parts, ends] = [[], []];
      for await (const { PayloadChunk, InvokeComplete } of EventStream) {
        if (PayloadChunk) parts.push(Buffer.from(PayloadChunk.Payload).toString());
        if (InvokeComplete) ends.push(InvokeComplete);
      }
      assert.equal(ends.length, 1);
      return { text: parts.join(""), end: ends[0] };
    };
    const whole = await stream({ parts: ["ä", "b", "c"] });
    assert.equal(whole.text, "äbc");
    assert.equal(whole.end.ErrorCode, undefined);
    assert.match(Buffer.from(whole.end.LogResult, "base64").toString(), /REPORT RequestId: /);
    const broken = await stream({ parts: ["a"], fail: "on purpose" });
    assert.equal(broken.text, "a");
    assert.equal(broken.end.ErrorCode, "Unhandled");
    assert.equal(JSON.parse(broken.end.ErrorDetails).errorType, "RangeError");
  });

  await t.test("it is listed and shown", async () => {
    const { Functions } = await client.send(new ListFunctionsCommand({}));
    assert.ok(Functions.some((found) => found.FunctionName === FunctionName));
    const { Code } = await client.send(new GetFunctionCommand({ FunctionName }));
    const answer = await fetch(Code.Location);
    assert.equal(answer.status, 200);
    assert.equal(Buffer.from(await answer.arrayBuffer()).subarray(0, 2).toString(), "PK");
  });

  await t.test("it is deleted", async () => {
    await client.send(new DeleteFunctionCommand({ FunctionName }));
    await assert.rejects(client.send(new GetFunctionCommand({ FunctionName })), ResourceNotFoundException);
  });
});
