// Tries what depends on threads, event loops and memory that a fork could have broken.
'use strict';

const childProcess = require('node:child_process');
const crypto = require('node:crypto');
const dns = require('node:dns');
const fs = require('node:fs');
const http = require('node:http');
const util = require('node:util');
const zlib = require('node:zlib');

async function httpRoundTrip() {
  const server = http.createServer((request, response) => response.end('hello'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const text = await new Promise((resolve, reject) => {
    http
      .get({ host: '127.0.0.1', port: server.address().port }, (response) => {
        let body = '';
        response.on('data', (chunk) => (body += chunk));
        response.on('end', () => resolve(body));
      })
      .on('error', reject);
  });
  server.closeAllConnections();
  server.close();
  return text === 'hello';
}

function garbage() {
  let kept = [];
  for (let i = 0; i < 300; i += 1) {
    kept.push(Buffer.alloc(1 << 20, i));
    if (kept.length > 20) kept = kept.slice(10);
  }
  let objects = [];
  for (let i = 0; i < 3e6; i += 1) objects[i % 50] = { i, text: `x${i}` };
  return kept.length > 0 && objects.length === 50;
}

const tries = {
  timers: () => new Promise((resolve) => setTimeout(() => setImmediate(() => resolve(true)), 10)),
  promises: async () => (await fs.promises.readFile('/etc/hosts', 'utf8')).includes('localhost'),
  dns: async () => (await dns.promises.lookup('localhost')).address.length > 0,
  pbkdf2: async () => (await util.promisify(crypto.pbkdf2)('a', 'b', 1000, 32, 'sha256')).length === 32,
  zlib: async () => {
    const packed = await util.promisify(zlib.gzip)(Buffer.alloc(1e6));
    return (await util.promisify(zlib.gunzip)(packed)).length === 1e6;
  },
  http: httpRoundTrip,
  wasm: async () => {
    const empty = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
    return (await WebAssembly.instantiate(empty)).instance instanceof WebAssembly.Instance;
  },
  garbage,
  processes: async () => (await util.promisify(childProcess.execFile)('echo', ['hi'])).stdout === 'hi\n',
};

exports.handler = async () => {
  const results = {};
  for (const [name, attempt] of Object.entries(tries)) {
    try {
      results[name] = await attempt();
    } catch (error) {
      results[name] = String(error);
    }
  }
  return results;
};
