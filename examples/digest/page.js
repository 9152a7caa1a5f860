"use strict";

// One page of all entries, by their sources; at its end what could not be fetched.

const escaped = (text) => String(text).replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
const line = ({ title, link }) => `<li>${/^https?:/.test(link) ? `<a href="${escaped(link)}">${escaped(title)}</a>` : escaped(title)}`;

exports.handler = async (event) => {
  const entries = event.sets.entries.map((item) => JSON.parse(item.text));
  const failed = event.sets.said.map((item) => [item.name, JSON.parse(item.text)]).filter(([, said]) => !said.ok);
  const sources = [...new Set(entries.map((entry) => entry.source))];
  const sections = sources.map((source) => {
    const own = entries.filter((entry) => entry.source === source);
    return `<h2>${escaped(source)}</h2>\n<ul>\n${own.map(line).join("\n")}\n</ul>`;
  });
  const regrets = failed.map(([name, said]) => `<p>Feed ${escaped(name)}: ${escaped(said.message)}</p>`);
  const html = ["<!doctype html>", '<meta charset="utf-8">', "<title>Digest</title>", ...sections, ...regrets, ""].join("\n");
  return { sets: { page: [{ name: "digest.html", text: html }] } };
};
