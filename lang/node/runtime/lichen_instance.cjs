// An instance: takes invocations and answers them, one after the other, until it is ended.
'use strict';

const native = require('./lichen.node');
const { answer, failure, tooLarge } = require('./lichen_answer.cjs');
const errors = require('./lichen_errors.cjs');
const garbage = require('./lichen_garbage.cjs');
const logging = require('./lichen_logging.cjs');

// As Lambda's runtime ends for these.
const UNHANDLED_REJECTION = 128;
const UNCAUGHT_EXCEPTION = 129;

let handler;
let settings;
let current = null;
let turning = false;
// Since garbage was last thought of.
let answered = false;
let caught = () => {};

/** Says that the function cannot be loaded, and ends. */
function failToLoad(error) {
  native.init_failed(failure(error, 'Init Error'));
  native.exit(1);
}

/** What becomes of errors that nobody has caught: `handle(error, status)`. */
function catchAll(handle) {
  caught = handle;
}

process.on('uncaughtException', (error) => {
  logging.failure('Uncaught Exception', error);
  caught(error, UNCAUGHT_EXCEPTION);
});

process.on('unhandledRejection', (reason) => {
  const error = new errors.Fault('Runtime.UnhandledPromiseRejection', String(reason), reason);
  logging.failure('Unhandled Promise Rejection', error);
  caught(error, UNHANDLED_REJECTION);
});

process.on('beforeExit', () => {
  if (handler !== undefined) current?.nothingLeft();
  else caught(new errors.Fault('Runtime.NodeJsExit', 'The function waits, while it is loaded, for what nothing is left to do.'));
});

/** Serves what comes, from now on. */
function serve(loaded, its) {
  handler = loaded;
  settings = its;
  native.ready();
  catchAll(end);
  turn();
}

/** As if nothing had been served: a rehearsal is over. */
function forget() {
  handler = undefined;
  current = null;
}

/** Ends the process by an error of the function's: the invocation's, if there is one. */
function end(error, status) {
  if (current !== null) native.fail(JSON.stringify(errors.describe(error)));
  native.exit(status);
}

/** Serves what has come, or goes on with an answer that waits for room. */
function turn() {
  turning = true;
  current?.goOn();
  while (current === null) {
    const invocation = native.take();
    if (invocation === undefined) {
      if (answered) garbage.between();
      answered = false;
      break;
    }
    invoke(invocation);
  }
  turning = false;
}

function invoke(invocation) {
  let ended = false;
  const begun = answer(handler, settings, invocation, native.begin, (succeeded, body) => {
    ended = true;
    answered = true;
    current = null;
    const limit = succeeded ? native.reply(body) : native.fail(body);
    if (limit !== undefined) native.fail(tooLarge(limit));
    if (!turning) turn();
  });
  if (!ended) current = begun;
}

native.listen(turn);

module.exports = { catchAll, failToLoad, serve, forget };
