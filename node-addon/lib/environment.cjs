'use strict';

// What the primary puts into a worker's environment, and how the worker reads and removes it before the program runs.

const fs = require('node:fs');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { parseEnv } = require('node:util');

const { quote, split } = require('./node-options.cjs');
const { ownFile } = require('./own-files.cjs');

const HOME = path.join(__dirname, '..');
const REGISTER = path.join(HOME, 'register.cjs');

// What a program preloads as cluster-rs/register its workers could not find from another working directory. Nobody else writes these
// paths in this form, so a worker knows them again.
const NAME = 'cluster-rs/register';
const PRELOADS = /^(?:-r|--(require|import))$/;

function aliases(home) {
  return { require: `${home}/lib/../register.cjs`, import: `${pathToFileURL(home)}/lib/../register.mjs` };
}

function preloadOf(register) {
  return `--require=${quote(register)}`;
}

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

/** The variable by which the command line names a module, by which a server behind a wrapper ends as one without. */
const BEHIND_WRAPPER = 'CLUSTER_RS_BEHIND_WRAPPER';

// The primary writes digits only, within an int.
const NUMBER = /^[0-9]{1,10}$/;
const MOST = 2 ** 31 - 1;

/** The words in the environment about this process's place in an engine: id, slot and descriptor. */
function words() {
  const { CL_WORKER_ID: id, CL_WORKER_SLOT: slot, CL_CHANNEL_FD: fd } = process.env;
  return [id, slot, fd];
}

/** Whether any of the words is there, so that this process was started as a worker. */
function isGiven() {
  return words().some((word) => word !== undefined);
}

/** This process's place in an engine: { id, slot, fd }; undefined if it has none or the words are damaged. */
function read() {
  const given = words();
  if (!given.every((word) => NUMBER.test(word ?? '') && Number(word) <= MOST)) return undefined;
  const [id, slot, fd] = given.map(Number);
  return id > 0 ? { id, slot, fd } : undefined;
}

/** Removes all of it from this process's environment. */
function remove() {
  delete process.env.CL_WORKER_ID;
  delete process.env.CL_WORKER_SLOT;
  delete process.env.CL_CHANNEL_FD;
  delete process.env.CL_WORKER_SIGNALS;
  delete process.env[BEHIND_WRAPPER];
  removePreload();
  process.execArgv.forEach((word, i) => {
    for (const alias of Object.values(aliases(HOME))) if (word.endsWith(alias)) process.execArgv[i] = word.slice(0, -alias.length) + NAME;
  });
}

// Wherever it stands: a wrapper may have put other options before it.
function removePreload() {
  const options = process.env.NODE_OPTIONS;
  if (options === undefined) return;
  if (options === preloadOf(REGISTER)) {
    delete process.env.NODE_OPTIONS;
    return;
  }
  const ours = split(options)?.find(({ text }) => text === `--require=${REGISTER}`);
  const rest = !ours ? options : options.slice(0, Math.max(0, ours.start - 1)) + options.slice(ours.start ? ours.end : ours.end + 1);
  process.env.NODE_OPTIONS = Object.values(aliases(HOME)).reduce((text, alias) => text.replaceAll(quote(alias), NAME), rest);
}

// Closing the channel tells the primary. Without the addon the channel cannot be identified, but beyond its standard streams a
// worker inherits no other unnamed socket.
function closeChannel(fd) {
  try {
    if (fd > 2 && fs.fstatSync(fd).isSocket()) fs.closeSync(fd);
  } catch {
    // It is closed already.
  }
}

module.exports = { BEHIND_WRAPPER, closeChannel, forWorker, isGiven, optionsFor, read, remove, words };
