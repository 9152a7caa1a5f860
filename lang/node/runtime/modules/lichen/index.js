// What Lichen offers to functions beyond their events: `require('lichen')`. See docs/fifo.md.
'use strict';

exports.fifo = require('/var/runtime/node/lichen_fifo.cjs');
