'use strict';

// Node's fork, with one more descriptor for the worker, its channel to the engine; and what the engine is told of it until it ends.

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

/** Workers that have ended, and had taken a connection. */
const served = new WeakSet();

/** Tells the engine of a worker's end. `ended` is called before. */
function follow(engine, { worker, id, shares }, ended) {
  const endShares = () => {
    for (const share of shares.values()) share.end();
  };
  worker.process.prependOnceListener('exit', (code) => {
    ended();
    endShares();
    // A code that is no failure is no crash, for which an address would be kept for a successor.
    if (engine.ended(id, code === 0)) served.add(worker);
  });
  worker.process.prependOnceListener('disconnect', () => {
    endShares();
    // One that ended is seen by the engine itself, which keeps its addresses for a successor.
    if (worker.exitedAfterDisconnect) engine.retire(id);
  });
}

module.exports = { follow, forkEnrolled, served };
