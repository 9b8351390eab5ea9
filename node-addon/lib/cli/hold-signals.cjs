'use strict';

// In the worker. Ctrl-C in a terminal, systemd and others signal every process of a group. That would end the workers in the middle
// of their requests while the primary asks them to finish. So the default action of such a signal waits here until the primary has
// spoken. A script that handles the signal itself gets it at once, and its listener is the only one. When it has taken that away
// again, as those do that listen while they have a child, the signal waits as before.

const { OWN_END } = require('../query.cjs');

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'];
/** If the primary says nothing for so many milliseconds the signal was for this worker alone, and takes effect. */
const PATIENCE = 1000;
/** What the primary sends along with a signal that is meant, and its name. */
const GO = 'NODE_CLUSTER_RS_GO';

const waits = new Map();
/** Signals that do what they do without us. */
const free = new Set();

function hold(signal) {
  let asked = false;
  let meant = false;
  let seen = false;
  let aside = false;
  let timer;
  const dieOfIt = () => {
    letGo(signal);
    if (!isHandled(signal)) process.kill(process.pid, signal);
  };
  const wait = () => {
    seen = true;
    if (!process.connected || meant) dieOfIt();
    else if (!asked && signal !== 'SIGHUP') timer ??= setTimeout(dieOfIt, PATIENCE).unref();
  };
  waits.set(signal, wait);
  process.on(signal, wait);
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
    if (message?.act === 'disconnect' || message?.act === OWN_END) {
      asked = true;
      clearTimeout(timer);
    } else if (message?.cmd === GO && message.signal === signal) {
      meant = true;
      if (seen && isHeld(signal)) dieOfIt();
    }
  });
}

/** From here on the signal does to this process what it does without us. */
function letGo(signal) {
  free.add(signal);
  process.removeListener(signal, waits.get(signal));
}

/** Whether the signal waits here. */
function isHeld(signal) {
  return !free.has(signal) && !isHandled(signal);
}

/** The signal has come, and waits. */
function keep(signal) {
  waits.get(signal)();
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

function holdSignals() {
  SIGNALS.forEach(hold);
}

module.exports = { GO, SIGNALS, holdSignals, isHandled, isHeld, keep, letGo };
