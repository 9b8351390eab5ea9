'use strict';

// What --recycle takes: after how much a worker is replaced, such as rss=400M,age=24h.

const { BYTES, MILLISECONDS, amountOf } = require('../amounts.cjs');
const { UsageError } = require('./failure.cjs');
const { nearest } = require('./suggest.cjs');

const MOST = 2 ** 31 - 1;

const whole = (text) => (/^[0-9]+$/.test(text) ? Number(text) : NaN);

/** By name: how it is read, the least, the most, what it takes. */
const LIMITS = {
  rss: [(text) => Math.round(amountOf(text, BYTES, 'B')), 1, 2 ** 50, 'an amount of memory such as 400M or 1.5G'],
  requests: [whole, 1, MOST, 'a number from 1'],
  connections: [whole, 1, MOST, 'a number from 1'],
  age: [(text) => Math.round(amountOf(text, MILLISECONDS, 's')), 1, 2 ** 50, 'a time such as 24h, 90m or 7d'],
  jitter: [whole, 0, 1000, 'a number of percent from 0 to 1000'],
};
const NAMES = Object.keys(LIMITS);
/** What others call them. */
const OTHERS = { memory: 'rss', mem: 'rss', ram: 'rss', time: 'age', lifetime: 'age' };

function unknown(option, name) {
  const meant = (Object.hasOwn(OTHERS, name) ? OTHERS[name] : undefined) ?? nearest(name, NAMES);
  const all = `${NAMES.slice(0, -1).join('=, ')}= and ${NAMES.at(-1)}=`;
  return new UsageError(`${option} has no limit ${JSON.stringify(name.slice(0, 40))}; ` +
    `${meant === undefined ? `there are ${all}` : `did you mean ${meant}=?`}`);
}

/** The options of cluster.recycle(). */
function limits(option, value) {
  const found = {};
  for (const part of value.split(',')) {
    const [name, text] = [part.split('=', 1)[0], part.slice(part.indexOf('=') + 1)];
    if (!part.includes('=')) throw new UsageError(`${option} takes limits such as rss=400M,age=24h, not ${JSON.stringify(part.slice(0, 40))}`);
    if (!Object.hasOwn(LIMITS, name)) throw unknown(option, name);
    const [read, least, most, what] = LIMITS[name];
    const number = read(text);
    if (!(number >= least && number <= most)) throw new UsageError(`${option} takes as ${name} ${what}, not ${JSON.stringify(text.slice(0, 40))}`);
    found[name] = number;
  }
  if (Object.keys(found).every((name) => name === 'jitter')) throw new UsageError(`${option} takes a limit beside jitter, such as rss=400M`);
  return found;
}

module.exports = { limits };
