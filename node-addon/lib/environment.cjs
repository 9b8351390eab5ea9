'use strict';

// A worker's place in the engine, as the primary put it into the environment: the worker reads and removes it before the program runs.

const fs = require('node:fs');
const path = require('node:path');

const HOME = path.join(__dirname, '..');
const REGISTER = path.join(HOME, 'register.cjs');

// What a program preloads as cluster-rs/register its workers could not find from another working directory. Nobody else writes these
// paths in this form, so a worker knows them again.
const NAME = 'cluster-rs/register';

/** The two forms of our own preload, as words of options, for a package in this folder. */
function aliases(home) {
  const { pathToFileURL } = require('node:url');
  return { require: `${home}/lib/../register.cjs`, import: `${pathToFileURL(home)}/lib/../register.mjs` };
}

/** The option that loads a preload, within NODE_OPTIONS. */
function preloadOf(register) {
  return `--require=${require('./node-options.cjs').quote(register)}`;
}

/** The variable by which the command line names a module, by which a server behind a wrapper ends as one without. */
const BEHIND_WRAPPER = 'CLUSTER_RS_BEHIND_WRAPPER';

// The primary writes digits only, within an int.
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
  const [id, slot, fd] = given.map(Number);
  const isSound = (number, i) => Number.isInteger(number) && number >= 0 && number <= MOST && `${number}` === given[i];
  return [id, slot, fd].every(isSound) && id > 0 ? { id, slot, fd } : undefined;
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
    if (!word.includes('/lib/../register.')) return;
    for (const alias of Object.values(aliases(HOME))) if (word.endsWith(alias)) process.execArgv[i] = word.slice(0, -alias.length) + NAME;
  });
}

// Wherever it stands: a wrapper may have put other options before it.
function removePreload() {
  const options = process.env.NODE_OPTIONS;
  if (options === undefined) return;
  // The first form is the usual one, and costs a worker least.
  if (options === `--require="${REGISTER}"` || options === preloadOf(REGISTER)) {
    delete process.env.NODE_OPTIONS;
    return;
  }
  const { quote, split } = require('./node-options.cjs');
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

module.exports = { BEHIND_WRAPPER, NAME, aliases, closeChannel, isGiven, preloadOf, read, remove, words };
