'use strict';

// What is known of each place of a worker, 0 to n-1. A place outlives its workers: its replacement gets the same number.

/** A worker that lived so long, in milliseconds, did not fail at its start. */
const HEALTHY = 10_000;

class Slot {
  /** The worker that has this place; null while it waits for its next start and after its last. */
  life = null;
  /** The one that is to take the place. */
  next = null;
  /** The ending of the last worker, when no other will follow. */
  final = null;
  /** The same while one is on the way all the same. */
  last = null;
  /** How often a worker of this place was replaced. */
  restarts = 0;
  /** Short lives in a row that never listened. */
  falseStarts = 0;
  /** It has had a worker. */
  begun = false;

  constructor(index) {
    this.index = index;
  }

  /** One has ended, or could not be started. */
  countStart(life) {
    this.falseStarts = life && (life.addresses.size > 0 || life.age >= HEALTHY) ? 0 : this.falseStarts + 1;
  }
}

class Slots {
  #byIndex = new Map();
  /** How many places there are, or were. */
  count = 0;

  constructor(count) {
    for (let index = 0; index < count; index++) this.at(index);
  }

  get all() {
    return [...this.#byIndex.values()].sort((a, b) => a.index - b.index);
  }

  /** Those that have a worker or are to get one. */
  get wanted() {
    return this.all.filter(({ final }) => final === null);
  }

  get(index) {
    return this.#byIndex.get(index);
  }

  at(index) {
    if (!this.#byIndex.has(index)) this.#byIndex.set(index, new Slot(index));
    this.count = Math.max(this.count, index + 1);
    return this.#byIndex.get(index);
  }

  /** The highest go first, and new ones get the lowest number that is free. */
  scale(count) {
    for (const { index } of this.wanted.slice(count)) this.#byIndex.delete(index);
    for (let index = 0; this.wanted.length < count; index++) this.at(index).final = null;
  }
}

module.exports = { Slots };
