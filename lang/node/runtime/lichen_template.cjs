// A template: loads what it is told to, comes to rest, and waits at its fork point.
//
//   configure ─► preload ─► [load the function] ─► rehearse ─► rest ─► report ─► fork point ─► child: an instance
//
// What it does before the fork point no child has to do, so it also runs once what a first request would run first.
'use strict';

const fs = require('node:fs');
const Module = require('node:module');
const timers = require('node:timers/promises');

const native = require('./lichen.node');
const builtins = require('./lichen_builtins.cjs');
const errors = require('./lichen_errors.cjs');
const forks = require('./lichen_forks.cjs');
const fn = require('./lichen_function.cjs');
const garbage = require('./lichen_garbage.cjs');
const instance = require('./lichen_instance.cjs');
const logging = require('./lichen_logging.cjs');
const rehearsal = require('./lichen_rehearsal.cjs');
const streaming = require('./lichen_stream.cjs');

// Kinds of what an event loop waits for that a child has like its template.
const INHERITED = new Set(['Immediate', 'Timeout']);
const REST_LIMIT_MS = 1000;

// What is known by the time that the function ends the process while it is loaded.
const report = { forkable: false, reason: null, init_us: 0, error: null, missing: {} };

/** Returns never in the template. */
async function run() {
  const config = JSON.parse(native.configure());
  process.execArgv.length = 0;
  logging.install();
  streaming.install();
  builtins.load();
  process.chdir(fn.TASK_ROOT);
  process.cwd(); // keeps it: children are there too
  process.env.NODE_PATH = fn.NODE_PATH;
  Module._initPaths();
  // libuv's thread pool begins with its first use: then its threads are told from the function's. One is enough here.
  process.env.UV_THREADPOOL_SIZE = '1';
  await fs.promises.stat('/');
  const threads = native.threads();
  guard();
  const began = performance.now();
  report.missing = preload(config.preload ?? []);
  const { settings, handler } = await load(config.function);
  report.init_us = Math.round((performance.now() - began) * 1000);
  await rehearsal.run(begin, settings);
  guard();
  report.reason = await comeToRest(threads);
  report.forkable = report.reason === null;
  const wanted = native.serve(JSON.stringify(report));
  if (!wanted) await rehearsal.ahead(begin);
  begin(native.settle(), settings, handler);
}

/** What the function does to its process is the template's end. */
function guard() {
  forks.atExit((status) => giveUp(`the function ends its process when it is loaded (status ${status})`));
  instance.catchAll(fail);
}

/** Reports why this template cannot be forked from, and waits to be ended. */
function giveUp(reason) {
  report.reason = reason;
  native.serve(JSON.stringify(report));
  native.exit(1);
}

/** An error that nobody has caught. */
function fail(error) {
  report.error = errors.describe(error);
  giveUp('the function cannot be loaded');
}

/** Loads modules for all children; those that cannot be had are named, with the reason. */
function preload(names) {
  const missing = {};
  for (const name of names) {
    try {
      fn.requireFromTask(name);
    } catch (error) {
      missing[name] = String(error).split('\n', 1)[0];
    }
  }
  return missing;
}

/** A dedicated template's function. */
async function load(config) {
  if (config === null || config === undefined) return { settings: null, handler: null };
  const settings = fn.settle(config);
  try {
    return { settings, handler: await fn.load(settings.handler) };
  } catch (error) {
    fail(error);
  }
}

/** Leaves nothing that a child could not have: the reason where that fails. */
async function comeToRest(threads) {
  const unfinished = await settled();
  if (unfinished.length > 0) return `unfinished where the function or its libraries began it: ${unfinished.join(', ')}`;
  const more = native.threads() - threads;
  if (more > 0) return `${more} thread(s) started by the function or its libraries do not end before a fork`;
  const obstacles = native.obstacles();
  if (obstacles.length > 0) return `open where the function or its libraries left it: ${obstacles.join(', ')}`;
  garbage.rest();
  native.fillHoles();
  return null;
}

/** What still keeps the event loop busy after a while, of what a child would not have. */
async function settled() {
  const end = performance.now() + REST_LIMIT_MS;
  for (;;) {
    const busy = process.getActiveResourcesInfo().filter((kind) => !INHERITED.has(kind));
    if (busy.length === 0 || performance.now() > end) return busy;
    await timers.setTimeout(5);
  }
}

/** The life of a child. */
function begin(config, settings, handler) {
  forks.differ();
  forks.atExit(native.exit);
  instance.catchAll(instance.failToLoad);
  if (handler !== null) {
    fn.resettle(settings, config === '' ? {} : JSON.parse(config));
    instance.serve(handler, settings);
    return;
  }
  const own = fn.settle(JSON.parse(config));
  const loaded = attempt(() => fn.load(own.handler));
  // Not awaited where it is there already: that would be another turn of the event loop.
  if (typeof loaded === 'function') instance.serve(loaded, own);
  else loaded.then((found) => instance.serve(found, own), instance.failToLoad);
}

function attempt(work) {
  try {
    return work();
  } catch (error) {
    return Promise.reject(error);
  }
}

module.exports = { run };
