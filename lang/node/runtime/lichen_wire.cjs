// What lichen.node does for an instance, over AWS's Runtime API: so that the same code serves a Node.js function that is
// started by a program of its own. See bootstrap.cjs.
//
//   take ──► GET next ─── arrives ──► turn ──► take: the invocation ──► … ──► reply, fail: POST ──► take …
//
// Requests follow one another: an answer is there before the next event is asked for, and before the process ends.
'use strict';

const fs = require('node:fs');
const http = require('node:http');

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const BASE = '/2018-06-01/runtime';
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
// Of an event: its text, deadline, request id, ARN, client context, identity, tenant.
const FIELDS = ['deadline-ms', 'aws-request-id', 'invoked-function-arn', 'client-context', 'cognito-identity', 'aws-tenant-id'];
const TRACE = 'lambda-runtime-trace-id';
const DEADLINE = 1;
const REQUEST_ID = 2;

let turn = () => {};
let arrived = null;
let asking = false;
let requestId = '';
// All requests so far.
let last = Promise.resolve();
// The answer that goes out in parts, and whether it waits for room.
let parts = null;
let full = false;

function request(method, path, headers) {
  return http.request({ host, port, agent, method, path: BASE + path, headers });
}

/** Sends a request after those before it: its answer. */
function ask(method, path, body) {
  last = last.then(() => settled(request(method, path, body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) }), body));
  return last;
}

function settled(sent, body) {
  return new Promise((resolve, reject) => {
    sent.on('error', reject);
    sent.on('response', (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks) }));
    });
    sent.end(body);
  });
}

/** Without the API there is nobody to tell. */
function lost() {
  process.reallyExit(1);
}

function take() {
  if (arrived !== null) {
    const invocation = arrived;
    arrived = null;
    return invocation;
  }
  if (!asking) {
    asking = true;
    ask('GET', '/invocation/next').then(({ headers, body }) => {
      asking = false;
      arrived = [body.toString(), ...FIELDS.map((name) => headers[`lambda-runtime-${name}`] ?? '')];
      arrived[DEADLINE] = Number(arrived[DEADLINE]);
      requestId = arrived[REQUEST_ID];
      if (headers[TRACE]) process.env._X_AMZN_TRACE_ID = headers[TRACE];
      else delete process.env._X_AMZN_TRACE_ID;
      turn();
    }, lost);
  }
  return undefined;
}

function open(type, chunk) {
  parts = request('POST', `/invocation/${requestId}/response`, {
    'Content-Type': type,
    'Lambda-Runtime-Function-Response-Mode': 'streaming',
    Trailer: 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body',
    'Transfer-Encoding': 'chunked',
  });
  parts.on('error', lost);
  parts.on('drain', () => {
    full = false;
    turn();
  });
  parts.flushHeaders();
  if (chunk.length > 0) part(chunk, 0);
  return chunk.length;
}

function part(chunk, from) {
  if (full) return 0;
  // What was written belongs to the socket until it is sent: the function may write to its own again.
  full = !parts.write(Buffer.from(chunk.subarray(from)));
  return chunk.length - from;
}

function reply(body) {
  if (parts === null) ask('POST', `/invocation/${requestId}/response`, body).catch(lost);
  else finish(body);
}

function fail(error) {
  if (parts === null) {
    ask('POST', `/invocation/${requestId}/error`, error).catch(lost);
    return;
  }
  const { errorType } = JSON.parse(error);
  parts.addTrailers({
    'Lambda-Runtime-Function-Error-Type': String(errorType).replace(/[^\x20-\x7e]/g, ' '),
    'Lambda-Runtime-Function-Error-Body': Buffer.from(error).toString('base64'),
  });
  finish('');
}

/** The last of an answer in parts. */
function finish(body) {
  const ended = settled(parts, body);
  parts = null;
  full = false;
  last = last.then(() => ended);
  last.catch(lost);
}

function initFailed(error) {
  ask('POST', '/init/error', error).catch(lost);
}

/** Ends the process once all that was said has been heard. */
function exit(status) {
  const end = () => process.reallyExit(status);
  last.then(end, end);
}

function print(descriptor, text) {
  const bytes = Buffer.from(text);
  let at = 0;
  while (at < bytes.length) {
    try {
      at += fs.writeSync(descriptor, bytes, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') return;
    }
  }
}

module.exports = {
  take,
  open,
  part,
  reply,
  fail,
  exit,
  print,
  idle: () => !full,
  begin() {},
  ready() {},
  init_failed: initFailed,
  listen(listener) {
    turn = listener;
  },
};
