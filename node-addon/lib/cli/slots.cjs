'use strict';

// The workers' places, 0 to n-1. A place outlives its workers: its replacement gets the same number.

const { Backoff, HEALTHY } = require('./pace.cjs');
const { Life } = require('./life.cjs');

class Slot {
  /** The worker that has this place; null while it waits for its next start and after its last. */
  life = null;
  /** During a reload: the one that shall take the place. */
  next = null;
  /** The ending of the last worker, when no other will follow. */
  final = null;
  /** How often a worker of this place was replaced. */
  restarts = 0;
  /** Short lives in a row that never listened. */
  falseStarts = 0;
  #backoff = new Backoff();

  constructor(index, fork) {
    this.index = index;
    this.fork = fork;
  }

  /** A new worker, which knows its place by a variable (--instance-var). */
  born() {
    return new Life(this.index, () => this.fork(this.index));
  }

  /** Counts how this life went, and gives the delay before the next in milliseconds. */
  delayAfter(life) {
    this.falseStarts = life.addresses.size > 0 || life.age >= HEALTHY ? 0 : this.falseStarts + 1;
    return Math.round(this.#backoff.next(life.age, life.addresses.size > 0, life.served, Math.random()));
  }
}

module.exports = { Slot };
