// A stage of a chain over HTTP: `node express_stage.cjs PORT [PORT OF THE NEXT]`, on connections that are kept.
const http = require("http");
const express = require("express");
const { handler } = require("./index.js");

const [port, next] = process.argv.slice(2).map(Number);
const agent = new http.Agent({ keepAlive: true, noDelay: true });

function call(value) {
  const body = JSON.stringify(value);
  const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const request = http.request({ host: "127.0.0.1", port: next, method: "POST", path: "/", agent, headers }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => resolve(JSON.parse(Buffer.concat(parts).toString())));
    });
    request.on("error", reject);
    request.end(body);
  });
}

const app = express();
app.use(express.json());
app.post("/", async (request, response) => {
  let value = await handler(request.body);
  if (next) {
    value = await call(value);
    value.back.push(Number(process.hrtime.bigint()));
  }
  response.json(value);
});
app.listen(port, "127.0.0.1");
