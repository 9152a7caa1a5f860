"use strict";

const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const MS_PER_DAY = 86_400_000;

/** Certificates and when they end: what the job looks through. */
const certificates = JSON.parse(readFileSync(join(__dirname, "certificates.json"), "utf8"));

/** A scheduled job: which certificates end soon, counted from the moment of the schedule. */
exports.handler = async (event) => {
  const moment = Date.parse(event.time);
  const within = event.days ?? 30;
  const rows = certificates
    .map(({ name, ends }) => ({ name, days: Math.floor((Date.parse(ends) - moment) / MS_PER_DAY) }))
    .sort((a, b) => a.days - b.days);
  const due = rows.filter(({ days }) => days <= within);
  console.log(JSON.stringify({ report: event.time, rule: event.resources?.[0], checked: rows.length, due }));
  return { due };
};
