'use strict';

// In the worker. Ctrl-C in a terminal, systemd and others signal every process of a group. That would end the workers in the middle
// of their requests while the primary asks them to finish. So the default action of such a signal waits here until the primary has
// spoken. A script that handles the signal itself gets it at once, and its listener is the only one.

/** If the primary says nothing for so many milliseconds the signal was for this worker alone, and takes effect. */
const PATIENCE = 1000;
/** What the primary sends along with a signal that is meant. */
const GO = 'NODE_CLUSTER_RS_GO';

function hold(signal) {
  let asked = false;
  let meant = false;
  let seen = false;
  let timer;
  const dieOfIt = () => {
    process.removeListener(signal, wait);
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  const wait = () => {
    seen = true;
    if (!process.connected || meant) dieOfIt();
    else if (!asked && signal !== 'SIGHUP') timer ??= setTimeout(dieOfIt, PATIENCE).unref();
  };
  process.on(signal, wait);
  // Before Node's own listener, which starts the signal's handle for the new listener: removing ours later would stop it.
  process.prependListener('newListener', (event, listener) => {
    if (event === signal && listener !== wait) process.removeListener(signal, wait);
  });
  process.on('internalMessage', (message) => {
    if (message?.act === 'disconnect') {
      asked = true;
      clearTimeout(timer);
    } else if (message?.cmd === GO) {
      meant = true;
      if (seen && process.listeners(signal).includes(wait)) dieOfIt();
    }
  });
}

function holdSignals() {
  ['SIGTERM', 'SIGINT', 'SIGHUP'].forEach(hold);
}

module.exports = { holdSignals, GO };
