'use strict';

// What the primary puts into a worker's environment and before its script, so that the worker finds its place.

const fs = require('node:fs');
const path = require('node:path');
const { parseEnv } = require('node:util');

const { NAME, aliases, preloadOf } = require('../environment.cjs');
const { quote, split } = require('../node-options.cjs');
const { ownFile } = require('../own-files.cjs');

const PRELOADS = /^(?:-r|--(require|import))$/;

/** Words of options in which our own preload is named as `named`, so that it is found from anywhere. */
function located(words, named) {
  return words.map((word, i) => {
    const [, kind] = /^--(require|import)=/.exec(word) ?? [];
    if (kind && word === `--${kind}=${NAME}`) return `--${kind}=${named[kind]}`;
    const before = PRELOADS.exec(words[i - 1]);
    return before && word === NAME ? named[before[1] ?? 'require'] : word;
  });
}

/** The words of Node's options for a worker that runs `script`. */
function optionsFor(words, script) {
  const register = ownFile('register.cjs', script);
  return register === undefined ? words : located(words, aliases(path.dirname(register)));
}

/** A text of options with some of its words written differently. */
function rewritten(options, change) {
  const words = split(options) ?? [];
  const changed = change(words.map(({ text }) => text));
  return words.reduceRight((text, { start, end, text: old }, i) =>
    changed[i] === old ? text : text.slice(0, start) + changed[i] + text.slice(end), options);
}

// With --env-file Node takes NODE_OPTIONS from there unless the environment has it, as a worker's always has.
function optionsOfFiles(execArgv, cwd) {
  let found;
  execArgv.forEach((word, i) => {
    const [, attached] = /^--env-file(?:-if-exists)?(?:=(.*))?$/s.exec(word) ?? [null, null];
    if (attached === null || !parseEnv) return;
    try {
      found = parseEnv(fs.readFileSync(path.resolve(cwd ?? '.', attached ?? execArgv[i + 1]), 'utf8')).NODE_OPTIONS ?? found;
    } catch {
      // Node says so itself.
    }
  });
  return found;
}

// First, so that the variables are gone before the program's own preloads run; but without Yarn's preload nothing is found.
function withPreload(options, register) {
  const preload = preloadOf(register);
  if (options === undefined) return preload;
  const { require, import: esm } = aliases(path.dirname(register));
  const found = rewritten(options, (words) => located(words, { require: quote(require), import: quote(esm) }));
  const pnp = process.versions.pnp && split(found)?.find(({ text }) => /\.pnp\.c?js$/.test(text));
  return pnp ? `${found.slice(0, pnp.end)} ${preload}${found.slice(pnp.end)}` : `${preload} ${found}`;
}

/**
 * A worker's environment: what the program gave, and the worker's place in the engine. `settings`: those of the fork. Without the
 * preload it is a worker as well, which gets its connections over Node's channel.
 */
function forWorker(given, place, fd, { exec, execArgv, cwd }) {
  const own = 'NODE_OPTIONS' in Object(given) ? given.NODE_OPTIONS : process.env.NODE_OPTIONS;
  const options = own ?? optionsOfFiles(execArgv, cwd);
  const register = ownFile('register.cjs', exec);
  const all = register === undefined ? options : withPreload(options, register);
  return {
    ...given,
    CL_WORKER_ID: `${place.id}`,
    CL_WORKER_SLOT: `${place.slot}`,
    CL_CHANNEL_FD: `${fd}`,
    ...(all !== undefined && { NODE_OPTIONS: all }),
  };
}

module.exports = { forWorker, optionsFor };
