'use strict';

// What a signal does at each moment of the run. The listeners stay the same from the first moment on: Node forgets a signal that has
// come when the last listener for it goes, and process 1 of a container gets only signals that it listens for.

const { watchTerminal } = require('./hangup.cjs');

const STOPS = ['SIGTERM', 'SIGINT'];

let terminalClosed = () => false;
// At first there is nothing to stop or to replace.
let stop = () => process.exit(0);
let reload = () => {};
let scale = () => {};

/** Once, before anything else. */
function listen() {
  for (const signal of STOPS) process.on(signal, () => stop(signal));
  process.on('SIGHUP', () => {
    if (terminalClosed()) stop('SIGHUP');
    else reload();
  });
  process.on('SIGTTIN', () => scale('SIGTTIN', 1));
  process.on('SIGTTOU', () => scale('SIGTTOU', -1));
  terminalClosed = watchTerminal();
}

/** From now on they do this. */
function obey(actions) {
  ({ stop, reload, scale } = actions);
}

/** From now on nothing is left but to end with this code. */
function endWith(code) {
  obey({ stop: () => process.exit(code), reload() {}, scale() {} });
}

module.exports = { endWith, listen, obey };
