// A stage whose work is to note when it ran.
'use strict';

const now = () => Number(process.hrtime.bigint());

exports.handler = async (event) => {
  const begun = now();
  const stamps = [begun, 0];
  event.at.push(stamps);
  stamps[1] = now();
  return event;
};
