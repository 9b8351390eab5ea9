'use strict';

// What the primary puts into a worker's environment, and how the worker reads and removes it before the program runs.

const fs = require('node:fs');
const path = require('node:path');

const REGISTER = path.join(__dirname, '..', 'register.cjs');

// NODE_OPTIONS allows spaces only within double quotes, where a backslash escapes.
const PRELOAD = `--require="${REGISTER.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;

/** A worker's environment: what the program gave, and the worker's place in the engine. */
function forWorker(given, place, fd) {
  const options = 'NODE_OPTIONS' in Object(given) ? given.NODE_OPTIONS : process.env.NODE_OPTIONS;
  return {
    ...given,
    CL_WORKER_ID: `${place.id}`,
    CL_WORKER_SLOT: `${place.slot}`,
    CL_CHANNEL_FD: `${fd}`,
    // First, so that the variables are gone before the program's own preloads run.
    NODE_OPTIONS: options === undefined ? PRELOAD : `${PRELOAD} ${options}`,
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

// Closing the channel tells the primary. Without the addon the channel cannot be identified, but beyond its standard streams a
// worker inherits no other unnamed socket.
function closeChannel(fd) {
  try {
    if (fd > 2 && fs.fstatSync(fd).isSocket()) fs.closeSync(fd);
  } catch {
    // It is closed already.
  }
}

module.exports = { closeChannel, forWorker, isGiven, read, remove, words };
