// What makes the children of a template differ, and how they end.
//
// Random numbers: Math.random is replaced by a generator that children reseed (V8's own cannot be), and what node:crypto
// has drawn ahead of time is thrown away (OpenSSL notices a fork by itself). It does not reseed generators that libraries
// or functions have made for themselves: what a template draws from is copied.
'use strict';

const crypto = require('node:crypto');
const { syncBuiltinESMExports } = require('node:module');

const native = require('./lichen.node');

// How many node:crypto draws ahead of time, at least.
const UUIDS_AHEAD = 128;
const INTEGERS_AHEAD = 1024;

// xoshiro128**: two of its outputs make the 53 bits of a number.
const state = new Uint32Array(4);
const stateBytes = new Uint8Array(state.buffer);

// What a template has drawn of what node:crypto keeps in store.
const drawn = { uuids: false, integers: false };
let pid;
let leave = (status) => native.exit(status);

function next() {
  const scrambled = Math.imul(state[1], 5);
  const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
  const shifted = state[1] << 9;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= shifted;
  state[3] = (state[3] << 11) | (state[3] >>> 21);
  return result;
}

function random() {
  return ((next() >>> 5) * 0x4000000 + (next() >>> 6)) / 0x20000000000000;
}

/** Takes the places of what could not be told from one sibling to the next, and of Node's way out. */
function install() {
  pid = native.differ(stateBytes);
  Object.defineProperty(process, 'pid', { get: () => pid, configurable: true, enumerable: true });
  Object.defineProperty(Math, 'random', { value: random, writable: true, configurable: true });
  watch('randomUUID', 'uuids');
  watch('randomInt', 'integers');
  syncBuiltinESMExports();
  // Node's own way out joins threads that a child does not have, and aborts.
  process.reallyExit = (status) => leave(status ?? 0);
}

function watch(name, what) {
  const original = crypto[name];
  const watched = {
    [name](...given) {
      drawn[what] = true;
      return original(...given);
    },
  }[name];
  crypto[name] = watched;
  if (what === 'uuids') {
    const { webcrypto } = crypto;
    const own = webcrypto.randomUUID;
    Object.defineProperty(Object.getPrototypeOf(webcrypto), 'randomUUID', {
      value: function randomUUID() {
        drawn[what] = true;
        return own.call(this);
      },
      writable: true,
      enumerable: true,
      configurable: true,
    });
  }
}

/** `ending(status)` is called in place of ending the process. */
function atExit(ending) {
  leave = ending;
}

/** A child's first step: what siblings would otherwise share, and what it would otherwise take for its own. */
function differ() {
  pid = native.differ(stateBytes);
  if (drawn.uuids) for (let i = 0; i < UUIDS_AHEAD; i += 1) crypto.randomUUID();
  // A range that divides what is drawn: none is drawn twice.
  if (drawn.integers) for (let i = 0; i < INTEGERS_AHEAD; i += 1) crypto.randomInt(2 ** 32);
  drawn.uuids = false;
  drawn.integers = false;
}

module.exports = { install, atExit, differ };
