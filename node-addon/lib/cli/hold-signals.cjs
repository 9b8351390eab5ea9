'use strict';

// In the worker. Ctrl-C in a terminal, systemd and others signal every process of a group: that would end the workers
// in the middle of their requests while the primary is asking them to finish. So the default action of such a signal
// waits here until the primary has spoken. A script that handles the signal itself gets it at once, and finds no
// listener beside its own.

/** Somebody who signals this worker alone waits so long, in milliseconds. */
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
  // In front of Node's own, which begins to listen to the signal for the new listener; after it, we would end that.
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
