'use strict';

// Node's fork with one more descriptor for the worker: its channel to the engine. And what the engine is told of a worker's end.

const { ChildProcess } = require('node:child_process');
const fs = require('node:fs');
const { errno: ERRNO } = require('node:os').constants;

const environment = require('./environment.cjs');

const WORDS = ['pipe', 'ignore', 'inherit', 'overlapped'];

// The worker's stdio as Node would derive it from the settings, and our descriptor behind it. Settings that Node refuses are left
// for Node to refuse.
function withChannel({ stdio, silent }, fd) {
  if (Array.isArray(stdio)) return [...stdio, fd];
  const word = WORDS.includes(stdio) ? stdio : silent ? 'pipe' : 'inherit';
  return typeof stdio === 'string' && word !== stdio ? stdio : [word, word, word, 'ipc', fd];
}

// Runs `fork` with settings of ours. Nobody sees them: the event 'setup' comes in a later tick and gets the same object.
function forkUnder(cluster, ours, fork) {
  const before = cluster.settings;
  const own = { ...before };
  Object.assign(before, ours);
  try {
    return fork();
  } finally {
    for (const settings of new Set([before, cluster.settings])) {
      for (const name of Object.keys(ours)) {
        if (Object.hasOwn(own, name)) settings[name] = own[name];
        // Node's own default, for which it saw ours.
        else if (settings !== before && name === 'execArgv') settings[name] = process.execArgv;
        else delete settings[name];
      }
    }
  }
}

let processes;

// Runs `fork` with a system that refuses each process with an errno. Node does with it what it always does: a worker with an
// 'error', or an exception.
function forkRefused(errno, fork) {
  processes ??= Object.getPrototypeOf(new ChildProcess()._handle);
  const { spawn } = processes;
  processes.spawn = () => errno;
  try {
    return fork();
  } finally {
    processes.spawn = spawn;
  }
}

// What `enroll()` gives: a place, or a negative errno value, also when it has thrown for want of descriptors.
function placeFor(enroll) {
  try {
    return enroll();
  } catch (error) {
    const errno = Number(/\(errno ([0-9]+)\)$/.exec(error.message)?.[1]);
    if (errno !== ERRNO.EMFILE && errno !== ERRNO.ENFILE) throw error;
    return -errno;
  }
}

function giveBack(engine, id) {
  engine.ended(id, true);
}

/**
 * Forks a worker for which the engine has a place. Throws what Node's fork throws, and leaves nothing behind then. There is no
 * place if no process could be started; the worker says why, as in Node. Where the engine has no place there is no process either:
 * it would listen outside of the engine and of its rules. `ready()` gives the engine. `enroll(engine)` makes the place, and
 * `lose(engine, id)` gives it back; `settings`: what counts beside or in place of those in force.
 */
function forkEnrolled(cluster, ready, fork, given, { enroll = (engine) => engine.enroll(), lose = giveBack, settings: wanted } = {}) {
  let engine;
  const place = placeFor(() => {
    engine = ready();
    return enroll(engine);
  });
  if (typeof place === 'number') return { worker: forkRefused(place, () => fork(given)) };
  try {
    // The policy and all other settings are those in force now.
    const inForce = { ...cluster.settings, ...wanted };
    const stdio = withChannel(inForce, place.fd);
    const number = Array.isArray(stdio) ? stdio.length - 1 : place.fd;
    const { exec, cwd, execArgv = process.execArgv } = inForce;
    // What is no list Node refuses.
    const words = Array.isArray(execArgv) ? environment.optionsFor(execArgv, exec) : undefined;
    const ours = { ...wanted, stdio, ...(words && { execArgv: words }) };
    const settings = { exec, execArgv: words ?? [], cwd };
    const worker = forkUnder(cluster, ours, () => fork(environment.forWorker(given, place, number, settings)));
    if (worker.process.pid === undefined) {
      lose(engine, place.id);
      return { worker };
    }
    engine.started(place.id, worker.process.pid);
    return { worker, place };
  } catch (error) {
    lose(engine, place.id);
    throw error;
  } finally {
    fs.closeSync(place.fd);
  }
}

/** `end(code, signal)` tells the engine of a worker's end. `ended` is called before, `told` after the program was told. */
function follow(engine, { worker, id, shares }, { ended, end, told }) {
  const endShares = () => {
    for (const share of shares.values()) share.end();
  };
  worker.process.prependOnceListener('exit', (code, signal) => {
    ended();
    endShares();
    end(code, signal);
  });
  // Node's own listener has told the program.
  worker.process.once('exit', told);
  worker.process.prependOnceListener('disconnect', () => {
    endShares();
    // The engine itself sees a worker that ended, and keeps its addresses for a successor.
    if (worker.exitedAfterDisconnect) engine.retire(id);
  });
}

module.exports = { follow, forkEnrolled };
