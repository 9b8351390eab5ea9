'use strict';

// What a worker finds in its environment, and how it is gone before the program runs: both sides of it in one place.

const path = require('node:path');

const REGISTER = path.join(__dirname, '..', 'register.cjs');

// In NODE_OPTIONS only what stands in double quotes may hold spaces, and there a backslash escapes.
const PRELOAD = `--require="${REGISTER.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;

/** The environment for a worker: what the program gave for it, and what leads it to its place in the engine. */
function forWorker(given, place, fd) {
  const options = 'NODE_OPTIONS' in Object(given) ? given.NODE_OPTIONS : process.env.NODE_OPTIONS;
  return {
    ...given,
    CL_WORKER_ID: `${place.id}`,
    CL_WORKER_SLOT: `${place.slot}`,
    CL_CHANNEL_FD: `${fd}`,
    // First, so that it is gone before the program's own preloads run.
    NODE_OPTIONS: options === undefined ? PRELOAD : `${PRELOAD} ${options}`,
  };
}

// As the primary writes it: digits alone, within an int.
const NUMBER = /^[0-9]{1,10}$/;
const MOST = 2 ** 31 - 1;

/** What the environment says of this process's place in an engine, as it stands there: id, slot and descriptor. */
function words() {
  const { CL_WORKER_ID: id, CL_WORKER_SLOT: slot, CL_CHANNEL_FD: fd } = process.env;
  return [id, slot, fd];
}

/** Whether it says that this process was started as a worker, be it in full or not. */
function isGiven() {
  return words().some((word) => word !== undefined);
}

/** Where this process's place in an engine is; undefined in a process that has none, and where the environment is damaged. */
function read() {
  const given = words();
  if (!given.every((word) => NUMBER.test(word ?? '') && Number(word) <= MOST)) return undefined;
  const [id, slot, fd] = given.map(Number);
  return id > 0 ? { id, slot, fd } : undefined;
}

/** Takes all of it out of this process's environment. */
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
