// What Node.js brings along and loads when it is first asked for: loaded once, in the template, it costs its children
// nothing. In a child it would be some milliseconds per module.
'use strict';

const MODULES = [
  'assert',
  'async_hooks',
  'buffer',
  'child_process',
  'crypto',
  'dgram',
  'diagnostics_channel',
  'dns',
  'dns/promises',
  'events',
  'fs',
  'fs/promises',
  'http',
  'http2',
  'https',
  'net',
  'os',
  'path',
  'perf_hooks',
  'process',
  'querystring',
  'readline',
  'stream',
  'stream/promises',
  'stream/web',
  'string_decoder',
  'timers',
  'timers/promises',
  'tls',
  'tty',
  'url',
  'util',
  'v8',
  'vm',
  'worker_threads',
  'zlib',
];

// Of the global names, those that load something: fetch and what belongs to it, and Web Crypto.
const GLOBALS = ['Request', 'crypto', 'CompressionStream'];

function load() {
  for (const name of MODULES) require(`node:${name}`);
  for (const name of GLOBALS) void globalThis[name];
}

module.exports = { load };
