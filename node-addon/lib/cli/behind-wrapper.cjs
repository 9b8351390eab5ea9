'use strict';

// In a server behind a wrapper such as npm, under the command line. The words for a stop go to the wrapper, which waits for us. Here
// the engine says that no more connections come, and that is the stop; see own-end.cjs.

const { SPREAD, ask, hasKept, holdSignals, isHandled } = require('./hold-signals.cjs');
const { Deliveries, now } = require('./own-end.cjs');
const { closeWebSockets, watchWebSockets } = require('./web-sockets.cjs');

// Nobody says which signal came.
const SIGNALS = ['SIGTERM', 'SIGINT'];
/** How long a server that has finished may take to exit by itself, in milliseconds. */
const BY_ITSELF = 300;

class OwnEnd {
  // Node keeps process.emit as it is when the first listener for a signal comes, so this is made before the script runs.
  #deliveries = new Deliveries(() => {});
  #at = null;

  constructor() {
    watchWebSockets();
  }

  /** This process has the wrapper's place. */
  joined() {
    // What comes after a stop is a second signal.
    holdSignals(() => this.#at === null);
  }

  /** Whether a signal has just come. One to the whole group ends the wrapper, and with it our channel, before we hear of a stop. */
  get isSignalled() {
    return hasKept() || this.#delivered() !== undefined;
  }

  #delivered() {
    return SIGNALS.find((signal) => this.#deliveries.has(signal, this.#at ?? now()));
  }

  /** No more connections come. Returns whether the script ends itself, with the signal that it gets. */
  begin() {
    this.#at = now();
    ask();
    const signal = this.#delivered() ?? SIGNALS.find(isHandled);
    if (signal === undefined) {
      closeWebSockets();
      return false;
    }
    setTimeout(() => {
      if (!this.#deliveries.has(signal, this.#at)) this.#deliveries.raise(signal);
    }, SPREAD);
    return true;
  }

  /** All connections are finished. */
  finished() {
    setTimeout(() => this.#deliveries.raise('SIGTERM'), BY_ITSELF).unref();
  }
}

module.exports = { OwnEnd };
