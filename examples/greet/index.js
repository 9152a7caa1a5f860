"use strict";

const GREETINGS = { de: "Guten Tag", en: "Hello", es: "Hola", fr: "Bonjour", it: "Buongiorno", ja: "こんにちは" };

/** Greets `name` in `language`, whether they come as an event or in the query of a URL. */
exports.handler = async (event, context) => {
  const { name = "world", language = "en" } = event.queryStringParameters ?? event;
  const greeting = GREETINGS[language] ?? GREETINGS.en;
  return { message: `${greeting}, ${name}!`, function: context.functionName };
};
