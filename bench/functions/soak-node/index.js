const { setTimeout: pause } = require("node:timers/promises");

exports.hello = async () => "hello";

exports.echo = async (event) => {
  await pause(event.ms);
  return event;
};

exports.fail = async (event) => {
  if (event.fail) throw new RangeError("as asked");
  return "well";
};
