'use strict';

// Which slot is started next, by the engine's rule: at most max(8, slots) starts in a second, and while nobody serves at least one
// in a second.

const { Restarts } = require('./pace.cjs');

class Queue {
  #restarts = new Restarts();
  #starts = new Map();
  #count;
  #deserted;
  #timer = null;

  /** `count` slots; `deserted` says whether nobody serves. */
  constructor(count, deserted) {
    this.#count = count;
    this.#deserted = deserted;
  }

  /** Calls `start` when the slot's turn has come, `delay` milliseconds from now or later. */
  add(slot, delay, start) {
    this.#starts.set(slot, start);
    this.#restarts.plan(slot, delay);
    this.#await();
  }

  cancel(slot) {
    this.#starts.delete(slot);
    this.#restarts.cancel(slot);
    this.#await();
  }

  #await() {
    clearTimeout(this.#timer);
    const wait = this.#restarts.nextIn(this.#count, this.#deserted());
    // Looks again soon, because others may stop serving meanwhile.
    if (wait !== null) this.#timer = setTimeout(() => this.#turn(), Math.min(Math.ceil(wait), 500));
  }

  #turn() {
    let slot;
    while ((slot = this.#restarts.take(this.#count, this.#deserted())) !== null) {
      const start = this.#starts.get(slot);
      this.#starts.delete(slot);
      start();
    }
    this.#await();
  }
}

module.exports = { Queue };
