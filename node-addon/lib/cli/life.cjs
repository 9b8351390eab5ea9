'use strict';

// One worker from its start to its end. Emits 'listening' (its address), and once each 'disconnect' and 'exit' (its
// ending).

const { EventEmitter } = require('node:events');
const { constants } = require('node:os');
const { addStages } = require('../primary/ipc.cjs');
const { GO } = require('./hold-signals.cjs');
const { HAD, OWN, STOP, now } = require('./own-end.cjs');
const { ADDRESSES, nameOf, watchBinds } = require('./binds.cjs');

/** { code, signal } of an ended worker, in words. */
function describe({ code, signal }) {
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
  /** It has, or had, its slot's place. */
  seated = false;
  /** Since it has answered a stop: the signal with which the script ends itself, or null. PASSED_ON: its child has its place. */
  own = undefined;
  #signalledAt = -Infinity;

  /** `id`: the engine's. */
  constructor(worker, { id, slot }) {
    super();
    this.worker = worker;
    this.pid = worker.process.pid;
    this.id = id;
    this.slot = slot;
    addStages(this.worker, { hears: (message) => this.#hears(message) }, watchBinds((error) => { this.bindError = error; }));
    this.worker.on('listening', (address) => {
      if (this.addresses.size >= ADDRESSES) return;
      this.addresses.add(nameOf(address));
      this.emit('listening', nameOf(address));
    });
    this.worker.on('exit', (code, signal) => this.#end({ code, signal }));
    this.worker.on('disconnect', () => this.emit('disconnect'));
    // That a signal could not be sent, for instance.
    this.worker.on('error', () => {});
  }

  get listens() {
    return this.addresses.size > 0 && this.ending === null;
  }

  get connected() {
    return this.worker.isConnected();
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
    if (this.ending !== null) return;
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
