"use strict";

/** Greets whoever the event names. */
exports.handler = async (event, context) => ({ message: `Hello, ${event.name ?? "world"}!` });
