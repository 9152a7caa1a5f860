// When garbage is collected, as far as that is not V8's to choose.
'use strict';

const v8 = require('node:v8');
const vm = require('node:vm');

// Invocations between two collections, and microseconds of collecting that one of them may cost on average. What a busy machine adds
// to those does not put a collection off for long.
const EVERY = 128;
const EVERY_MAX = 512;
const SHARE_US = 2;

let collect = null;
let served = 0;
let due = EVERY;

/** Collects all there is, as a template comes to rest; from then on its children collect by themselves. */
function rest() {
  // V8 shows its collector to contexts that are made under this flag only.
  v8.setFlagsFromString('--expose-gc');
  collect = vm.runInNewContext('gc');
  v8.setFlagsFromString('--no-expose-gc');
  // Twice, as the first makes more of it.
  collect();
  collect();
  // Looks at the whole heap, so what was put off is done: else children would sweep it, and copy it for that.
  v8.getHeapCodeStatistics();
}

/**
 * An invocation is over, and nothing waits: collects what the last ones have left behind, now and then. V8 does that when its
 * nursery is full. By then an instance has copied megabytes of its template's memory, page by page, which stay with it, and has
 * always written where its caches are cold.
 */
function between() {
  served += 1;
  if (served < due || collect === null) return;
  served = 0;
  const began = performance.now();
  collect({ type: 'minor' });
  const took = (performance.now() - began) * 1000;
  due = Math.min(Math.max(EVERY, took / SHARE_US), EVERY_MAX);
}

module.exports = { rest, between };
