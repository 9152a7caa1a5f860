// Errors as Lambda words them: {"errorType", "errorMessage", "trace"}.
'use strict';

const { isNativeError } = require('node:util/types');

/** An error of the function that the runtime has found: its type is Lambda's, not a class. */
class Fault extends Error {
  constructor(kind, message, cause) {
    super(message);
    this.name = kind;
    if (cause?.stack) this.stack = `${kind}: ${cause.stack}`;
  }
}

function isError(value) {
  return isNativeError(value) || (typeof value === 'object' && value !== null && 'message' in value && 'stack' in value);
}

/** The error object of whatever was thrown. */
function describe(thrown) {
  try {
    if (!isError(thrown)) return { errorType: typeof thrown, errorMessage: String(thrown), trace: [] };
    return {
      errorType: String(thrown.name),
      errorMessage: String(thrown.message),
      trace: String(thrown.stack ?? '').split('\n'),
    };
  } catch {
    // An object of the function's that throws when it is looked at.
    return { errorType: 'Error', errorMessage: 'an error that cannot be shown', trace: [] };
  }
}

/** The same for the log: with `stack` for `trace`, and what else the error carries. */
function forLog(thrown) {
  const { errorType, errorMessage, trace } = describe(thrown);
  const shown = { errorType, errorMessage };
  try {
    if (isError(thrown)) Object.assign(shown, thrown);
    shown.stack = trace;
    return JSON.stringify(shown);
  } catch {
    return JSON.stringify({ errorType, errorMessage, stack: trace });
  }
}

module.exports = { Fault, describe, forLog };
