'use strict';

// What the options' values mean: how many workers, how long, which name, which words.

const { UsageError } = require('./failure.cjs');
const { split } = require('../node-options.cjs');

const MOST_INSTANCES = 1024;
const MOST_MS = 2 ** 31 - 1;
// What Node, the engine and the shell read there.
const TAKEN = /^(NODE_(OPTIONS|PATH|ENV|UNIQUE_ID|CHANNEL_\w+|CLUSTER_\w+)|CL_\w+|CLUSTER_RS_\w+|PATH|HOME|PWD)$/;
const UNITS = { '': 1000, 'ms': 1, 's': 1000, 'm': 60_000 };

/** `3` gives { count: 3 }, `max` and `0` { fewer: 0 } and `-1` { fewer: 1 }: fewer than the usable CPUs. */
function instances(option, value) {
  if (value === 'max' || value === '0') return { fewer: 0 };
  if (/^-[0-9]+$/.test(value) && Number(value) < 0) return { fewer: -Number(value) };
  const count = /^[0-9]+$/.test(value) ? Number(value) : NaN;
  if (count >= 1 && count <= MOST_INSTANCES) return { count };
  throw new UsageError(`${option} takes a number from 1 to ${MOST_INSTANCES}, max or 0, or -1 for one fewer than max, ` +
    `not ${JSON.stringify(value)}`);
}

/** Milliseconds of `30`, `1.5s`, `500ms` or `2m`. */
function duration(option, value, least = 0) {
  const parts = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|)$/.exec(value);
  const ms = parts === null ? NaN : Math.round(Number(parts[1]) * UNITS[parts[2]]);
  if (ms >= least && ms <= MOST_MS) return ms;
  throw new UsageError(`${option} takes a time such as 30, 1.5s, 500ms or 2m, not ${JSON.stringify(value)}`);
}

/** How many at a time. */
function count(option, value) {
  if (/^[0-9]+$/.test(value) && Number(value) >= 1 && Number(value) <= MOST_INSTANCES) return Number(value);
  throw new UsageError(`${option} takes a number from 1 to ${MOST_INSTANCES}, not ${JSON.stringify(value)}`);
}

/** The name of an environment variable that means nothing yet. */
function variable(option, value) {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(value) && !TAKEN.test(value)) return value;
  throw new UsageError(`${option} takes the name of an environment variable of the program's own, such as APP_INSTANCE, ` +
    `not ${JSON.stringify(value)}`);
}

/** The words of a string, split as Node splits NODE_OPTIONS: at spaces, except in double quotes, where \ escapes. */
function words(option, value) {
  const found = split(value);
  if (found === undefined) throw new UsageError(`${option} has an opening quote without a closing one: ${value}`);
  return found.map(({ text }) => text);
}

module.exports = { MOST_INSTANCES, count, duration, instances, variable, words };
