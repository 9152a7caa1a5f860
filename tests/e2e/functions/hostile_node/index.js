"use strict";

const fs = require("fs");

const kept = [];
const forever = () => new Promise(() => setInterval(() => {}, 1000));

/** Whatever harm it is asked to do. */
const ACTIONS = {
  memory: () => {
    for (;;) kept.push(Buffer.alloc(16 << 20, 1));
  },
  heap: () => {
    for (;;) kept.push(new Array(1 << 16).fill({}));
  },
  tmp: () => {
    const file = fs.openSync("/tmp/all", "w");
    for (;;) fs.writeSync(file, Buffer.alloc(1 << 20));
  },
  exit: () => process.exit(3),
  throw: () => {
    throw new TypeError("on purpose");
  },
  reject_later: () => {
    Promise.reject(new Error("nobody listens"));
    return forever();
  },
  throw_later: () => {
    setTimeout(() => {
      throw new Error("nobody catches");
    }, 1);
    return forever();
  },
  abort: () => process.abort(),
  kill: () => process.kill(process.pid, "SIGKILL"),
  spin: () => {
    for (;;);
  },
  wait: forever,
  descriptors: () => {
    for (let fd = 0; fd < 1024; fd++) {
      try {
        fs.closeSync(fd);
      } catch {}
    }
    return forever();
  },
  print: () => {
    const line = "x".repeat(1023) + "\n";
    for (let i = 0; i < 1 << 20; i++) fs.writeSync(1, line);
  },
  huge_answer: () => "x".repeat(7 << 20),
};

exports.handler = async (event) => (event.do ? ACTIONS[event.do]() : "well");
