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

/** Where this process's place in an engine is, as the environment says it; undefined in a process that has none. */
function read() {
  const { CL_WORKER_ID: id, CL_WORKER_SLOT: slot, CL_CHANNEL_FD: fd } = process.env;
  const place = { id: Number(id), slot: Number(slot), fd: Number(fd) };
  const plausible = id && slot && fd && Object.values(place).every((number) => Number.isInteger(number) && number >= 0);
  return plausible ? place : undefined;
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

module.exports = { forWorker, read, remove };
