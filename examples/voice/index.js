// A voice assistant of five functions, each of which gets what the one before has made of it:
//
//   frontend ── sentences ──► intent ── intents ──► home ── commands ──► door ── what was done ──► light ──► an answer
//
// The state of the home comes with the request and goes back with the answer.
'use strict';

const WAKE_WORDS = /^\s*(hey|ok|okay)?\s*(lichen|alexa|computer)[\s,:!.]*/i;

/** What was said, as plain clauses: no wake word, no politeness, no capitals. */
exports.frontend = async ({ text = '', home = {} }) => {
  if (typeof text !== 'string' || text.trim() === '') throw new TypeError('text is missing: what was said');
  const clauses = text
    .replace(WAKE_WORDS, '')
    .toLowerCase()
    .replace(/\b(please|could you|would you|can you)\b/g, ' ')
    .split(/[.,;!?]|\band(?: then)?\b|\bthen\b/)
    .map((clause) => clause.replace(/\s+/g, ' ').trim())
    .filter((clause) => clause !== '');
  return { clauses, home };
};

// The first that fits is meant.
const GRAMMAR = [
  [/^(un)?lock (?:the )?(.*?) ?door$/, ([, un, place]) => ({ device: 'door', place, want: un ? 'unlocked' : 'locked' })],
  [/^(open|close|shut) (?:the )?(.*?) ?door$/, ([, verb, place]) => ({ device: 'door', place, want: verb === 'open' ? 'open' : 'closed' })],
  [/^(?:turn|switch) (on|off) (?:the )?(.*?) ?lights?$/, ([, want, place]) => ({ device: 'light', place, want })],
  [/^(?:turn|switch) (?:the )?(.*?) ?lights? (on|off)$/, ([, place, want]) => ({ device: 'light', place, want })],
  [/^(?:dim|set) (?:the )?(.*?) ?lights? to (\d+)(?: ?%| percent)?$/, ([, place, level]) => ({ device: 'light', place, want: 'on', level: Math.min(Number(level), 100) })],
  [/^(?:i'm|i am) home$/, () => [{ device: 'door', place: 'front', want: 'unlocked' }, { device: 'light', place: 'hall', want: 'on' }]],
  [/^(?:good night|i'm leaving|i am leaving)$/, () => [{ device: 'door', place: '*', want: 'locked' }, { device: 'light', place: '*', want: 'off' }]],
];

/** What is meant by each clause. */
exports.intent = async ({ clauses, home }) => {
  const intents = [];
  const unknown = [];
  for (const clause of clauses) {
    const rule = GRAMMAR.find(([pattern]) => pattern.test(clause));
    if (rule === undefined) unknown.push(clause);
    else intents.push(...[rule[1](clause.match(rule[0]))].flat());
  }
  return { intents, unknown, home };
};

/** Which devices of this home are meant: a place by its name, the only one where none was named, or all of them. */
exports.home = async ({ intents, unknown, home }) => {
  const commands = [];
  for (const { device, place, ...order } of intents) {
    const known = Object.keys(home[device] ?? {});
    let meant = known.filter((name) => place === '*' || name === place);
    if (meant.length === 0 && place === '' && known.length === 1) meant = known;
    if (meant.length === 0) unknown.push(`${place} ${device}`.trim());
    commands.push(...meant.map((name) => ({ device, name, ...order })));
  }
  return { commands, unknown, home, done: [] };
};

/** Moves the doors. One that is open cannot be locked: it is closed first; one that is locked is not opened. */
exports.door = async ({ commands, unknown, home, done }) => {
  for (const { name, want } of commands.filter(({ device }) => device === 'door')) {
    const door = home.door[name];
    if (want === 'open' && door.locked) {
      done.push(`the ${name} door is locked and stays closed`);
      continue;
    }
    if (want === 'locked' || want === 'closed') door.open = false;
    if (want === 'open') door.open = true;
    if (want === 'locked' || want === 'unlocked') door.locked = want === 'locked';
    done.push(`the ${name} door is ${want}`);
  }
  return { commands, unknown, home, done };
};

/** Switches the lights, and says what has been done. */
exports.light = async ({ commands, unknown, home, done }) => {
  for (const { name, want, level } of commands.filter(({ device }) => device === 'light')) {
    const light = home.light[name];
    light.on = want === 'on' && level !== 0;
    if (level !== undefined) light.level = level;
    done.push(`the ${name} light is ${light.on ? `on at ${light.level ?? 100} percent` : 'off'}`);
  }
  const said = done.map((sentence) => `${sentence[0].toUpperCase()}${sentence.slice(1)}.`);
  said.push(...unknown.map((what) => `I do not know what to do about “${what}”.`));
  return { say: said.join(' ') || 'There is nothing to do.', home };
};
