'use strict';

// One worker from its start to its end. Emits 'listening' (its address), and once each 'disconnect' and 'exit' (its
// ending).

const { EventEmitter } = require('node:events');
const { constants } = require('node:os');
const { served } = require('../primary/fork.cjs');
const { addStages } = require('../primary/ipc.cjs');
const { GO } = require('./hold-signals.cjs');
const { HAD, OWN, STOP, now } = require('./own-end.cjs');
const { ADDRESSES, nameOf, watchBinds } = require('./binds.cjs');

/** { code, signal, error? } of an ended worker, in words. */
function describe({ code, signal, error }) {
  if (error !== undefined) return `could not be started: ${error.message}`;
  return signal ? `was ended by ${signal}` : `exited with code ${code}`;
}

/** The exit code that stands for it, as a shell has it. */
function exitCodeOf({ code, signal }) {
  return signal ? 128 + constants.signals[signal] : code;
}

const PASSED_ON = 'passed on';

function signalIn({ signal }) {
  return Object.hasOwn(constants.signals, signal) ? signal : null;
}

class Life extends EventEmitter {
  startedAt = performance.now();
  /** Names of the addresses on which it listens. */
  addresses = new Set();
  /** Why an address could not be had, the last one. */
  bindError = null;
  ending = null;
  /** Since it has answered a stop: the signal with which the script ends itself, or null. PASSED_ON: its child has its place. */
  own = undefined;
  #signalledAt = -Infinity;
  worker = null;

  /** `fork` makes the cluster's worker. */
  constructor(slot, fork) {
    super();
    this.slot = slot;
    try {
      this.worker = fork();
    } catch (error) {
      setImmediate(() => this.#end({ code: 1, signal: null, error }));
      return;
    }
    addStages(this.worker, { hears: (message) => this.#hears(message) }, watchBinds((error) => { this.bindError = error; }));
    this.worker.on('listening', (address) => {
      if (this.addresses.size >= ADDRESSES) return;
      this.addresses.add(nameOf(address));
      this.emit('listening', nameOf(address));
    });
    this.worker.on('exit', (code, signal) => this.#end({ code, signal }));
    this.worker.on('disconnect', () => this.emit('disconnect'));
    this.worker.on('error', (error) => {
      if (this.pid === undefined) this.#end({ code: 1, signal: null, error });
    });
  }

  get pid() {
    return this.worker?.process.pid;
  }

  get listens() {
    return this.addresses.size > 0 && this.ending === null;
  }

  /** Whether it had taken a connection; known once it has ended. Nobody counts them with the policy `none`. */
  get served() {
    return this.worker !== null && served.has(this.worker);
  }

  get connected() {
    return this.worker !== null && this.worker.isConnected();
  }

  /** Whether its script handles a signal that came within the last `milliseconds`. */
  wasSignalled(milliseconds) {
    return performance.now() - this.#signalledAt < milliseconds;
  }

  /** Milliseconds that it has lived. */
  get age() {
    return performance.now() - this.startedAt;
  }

  /**
   * Asks it to end. A script that handles one of the signals gets it. `isForAll`: other processes may have got it as well.
   * No other connection comes, in any case.
   */
  stop(signals, isForAll) {
    this.relay(signals, isForAll);
    if (this.connected) this.worker.disconnect();
  }

  /** Gives the script one of the signals unless it has it already. `again`: even if it does not handle it. */
  relay(signals, isForAll, again = false) {
    if (!this.connected) return;
    const listens = this.addresses.size > 0;
    this.worker.process.send({ cmd: STOP, signals, at: now(), isForAll, again, listens }, () => {});
  }

  /** Sends a signal, with the word that lets it through hold-signals.cjs in the worker. */
  signal(name) {
    if (this.ending !== null || this.worker === null) return;
    if (this.connected) this.worker.process.send({ cmd: GO, signal: name }, () => {});
    this.worker.process.kill(name);
  }

  /** Resolves with the ending. */
  exited() {
    return new Promise((resolve) => {
      if (this.ending !== null) resolve(this.ending);
      else this.once('exit', resolve);
    });
  }

  #hears(message) {
    if (message?.cmd === HAD) this.#signalledAt = performance.now();
    if (message?.cmd === OWN) this.own ||= message.isPassedOn === true ? PASSED_ON : signalIn(message);
    return false;
  }

  #end(ending) {
    if (this.ending !== null) return;
    this.ending = ending;
    this.emit('exit', ending);
  }
}

module.exports = { Life, describe, exitCodeOf };
