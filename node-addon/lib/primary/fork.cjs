'use strict';

// Node's fork, with one more descriptor for the worker: its channel to the engine.

const fs = require('node:fs');

const environment = require('../environment.cjs');

const WORDS = ['pipe', 'ignore', 'inherit', 'overlapped'];

// The worker's descriptors as Node would have made them of the settings, with ours behind. What Node would refuse is left as
// it is, for Node to refuse.
function withChannel({ stdio, silent }, fd) {
  if (Array.isArray(stdio)) return [...stdio, fd];
  const word = WORDS.includes(stdio) ? stdio : silent ? 'pipe' : 'inherit';
  return typeof stdio === 'string' && word !== stdio ? stdio : [word, word, word, 'ipc', fd];
}

// Runs `fork` under a setting of ours. Nobody sees it: the event 'setup' comes in a later tick, and gets the same object.
function forkUnder(cluster, stdio, fork) {
  const before = cluster.settings;
  const had = Object.hasOwn(before, 'stdio');
  const own = before.stdio;
  before.stdio = stdio;
  try {
    return fork();
  } finally {
    for (const settings of new Set([before, cluster.settings])) {
      if (had) settings.stdio = own;
      else delete settings.stdio;
    }
  }
}

function placeFor(engine) {
  try {
    return engine.enroll();
  } catch {
    return undefined;
  }
}

/**
 * Forks a worker for which the engine has a place. Throws what Node's fork throws, and leaves nothing behind then. Without a
 * place where no process could be started: the worker then says why, as in Node.
 */
function forkEnrolled(cluster, engine, fork, given) {
  const place = placeFor(engine);
  if (!place) return { worker: fork(given) };
  try {
    // The policy and all other settings are those in force now.
    const stdio = withChannel(cluster.settings, place.fd);
    const number = Array.isArray(stdio) ? stdio.length - 1 : place.fd;
    const worker = forkUnder(cluster, stdio, () => fork(environment.forWorker(given, place, number)));
    if (worker.process.pid === undefined) {
      engine.ended(place.id, true);
      return { worker };
    }
    engine.started(place.id, worker.process.pid);
    return { worker, place };
  } catch (error) {
    engine.ended(place.id, true);
    throw error;
  } finally {
    fs.closeSync(place.fd);
  }
}

module.exports = { forkEnrolled };
