'use strict';

// In the worker. Ctrl-C in a terminal, systemd and others signal every process of a group. That would end the workers in the middle
// of their requests while the primary asks them to finish. So the default action of such a signal waits here until the primary has
// spoken. A script that handles the signal itself gets it at once, and its listener is the only one. When it has taken that away
// again, as those do that listen while they have a child, the signal waits as before.

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'];
/** If the primary says nothing for so many milliseconds the signal was for this worker alone, and takes effect. */
const PATIENCE = 1000;
/** How long a signal to the whole group may take from one process of it to another, in milliseconds. */
const SPREAD = 100;
/** What the primary sends along with a signal that is meant, and its name. */
const GO = 'NODE_CLUSTER_RS_GO';

const waits = new Map();
/** Signals that do what they do without us. */
const free = new Set();
const timers = new Set();
/** When the primary asked this worker to end. */
let askedAt = null;
/** A signal waits, or waited. */
let kept = false;

function hold(signal, isConnected) {
  let meant = false;
  let seen = false;
  // The script's listeners, if there are any, are the only ones.
  let aside = process.listenerCount(signal) > 0;
  let timer;
  const dieOfIt = () => {
    letGo(signal);
    if (!isHandled(signal)) process.kill(process.pid, signal);
  };
  const wait = () => {
    seen = true;
    kept = true;
    if (meant || !(isConnected() || wasJustAsked())) dieOfIt();
    else if (askedAt === null && signal !== 'SIGHUP' && !timer) timers.add(timer = setTimeout(dieOfIt, PATIENCE).unref());
  };
  waits.set(signal, wait);
  if (!aside) process.on(signal, wait);
  // Before Node's own listener, which starts the signal's handle for the new listener: removing ours later would stop it.
  process.prependListener('newListener', (event, listener) => {
    if (event !== signal || listener === wait) return;
    aside = true;
    process.removeListener(signal, wait);
  });
  process.prependListener('removeListener', (event, listener) => {
    if (event !== signal || free.has(signal) || process.listenerCount(signal) > 0 || (listener === wait && aside)) return;
    aside = false;
    process.on(signal, wait);
  });
  process.on('internalMessage', (message) => {
    if (message?.cmd !== GO || message.signal !== signal) return;
    meant = true;
    if (seen && isHeld(signal)) dieOfIt();
  });
}

/** The primary has asked this worker to end. */
function ask() {
  askedAt ??= performance.now();
  timers.forEach(clearTimeout);
}

// A worker may have finished before it gets a signal that went to the whole group.
function wasJustAsked() {
  return askedAt !== null && performance.now() - askedAt < SPREAD;
}

/** From here on the signal does to this process what it does without us. */
function letGo(signal) {
  free.add(signal);
  if (waits.has(signal)) process.removeListener(signal, waits.get(signal));
}

function hasKept() {
  return kept;
}

/** Whether the signal waits here. */
function isHeld(signal) {
  return waits.has(signal) && !free.has(signal) && !isHandled(signal);
}

/** The signal has come, and waits. False if our listener is there: others that are hidden beside it, as tsx has, hear it too. */
function keep(signal) {
  const wait = waits.get(signal);
  if (process.listeners(signal).includes(wait)) return false;
  wait();
  return true;
}

// signal-exit calls exit hooks and then lets the signal end the process. Each loaded copy of it listens once, and counts that.
function hooksOfSignalExit() {
  const newer = globalThis[Symbol.for('signal-exit emitter')];
  return (newer?.count ?? 0) + (process.__signal_exit_emitter__?.count ?? 0);
}

/** Whether the script has a handler of its own for the signal, one after which the process may go on. */
function isHandled(signal) {
  const listeners = process.listeners(signal).filter((listener) => listener !== waits.get(signal));
  return listeners.length > hooksOfSignalExit();
}

/** `isConnected()` says whether the primary may still speak. */
function holdSignals(isConnected = () => process.connected) {
  for (const signal of SIGNALS) hold(signal, isConnected);
}

module.exports = { GO, SIGNALS, SPREAD, ask, hasKept, holdSignals, isHandled, isHeld, keep, letGo };
