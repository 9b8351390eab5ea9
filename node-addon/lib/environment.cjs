'use strict';

// What the primary puts into a worker's environment, and how the worker reads and removes it before the program runs.

const path = require('node:path');

const { ownFile } = require('./own-files.cjs');

const REGISTER = path.join(__dirname, '..', 'register.cjs');

// NODE_OPTIONS allows spaces only within double quotes, where a backslash escapes.
function preloadOf(register) {
  return `--require="${register.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

const PRELOAD = preloadOf(REGISTER);

/**
 * A worker's environment: what the program gave, and the worker's place in the engine. `script`: what the worker runs. Without the
 * preload it is a worker as well, which gets its connections over Node's channel.
 */
function forWorker(given, place, fd, script) {
  const own = 'NODE_OPTIONS' in Object(given) ? given.NODE_OPTIONS : process.env.NODE_OPTIONS;
  const register = ownFile('register.cjs', script);
  // First, so that the variables are gone before the program's own preloads run.
  const options = [register && preloadOf(register), own].filter((text) => text !== undefined);
  return {
    ...given,
    CL_WORKER_ID: `${place.id}`,
    CL_WORKER_SLOT: `${place.slot}`,
    CL_CHANNEL_FD: `${fd}`,
    ...(options.length > 0 && { NODE_OPTIONS: options.join(' ') }),
  };
}

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
  const options = process.env.NODE_OPTIONS;
  if (options === PRELOAD) delete process.env.NODE_OPTIONS;
  else if (options?.startsWith(`${PRELOAD} `)) process.env.NODE_OPTIONS = options.slice(PRELOAD.length + 1);
}

module.exports = { forWorker, isGiven, read, remove, words };
