'use strict';

// The rules for restarts: the engine's, and simple ones where there is no addon.

const { absence, load } = require('../addon.cjs');

const LEAST = 100;
const MOST = 10_000;

/** The delays between the restarts of one slot: they double, up to a bound. */
class Backoff {
  #delay = LEAST;

  next(lived, listened, served, jitter) {
    if (lived >= MOST) this.#delay = LEAST;
    const delay = this.#delay;
    this.#delay = Math.min(MOST, delay * 2);
    return delay * (1 + jitter / 4);
  }
}

/** Which slots wait for their next start, and until when. */
class Restarts {
  #due = new Map();

  plan(slot, delay) {
    this.#due.set(slot, performance.now() + delay);
  }

  cancel(slot) {
    this.#due.delete(slot);
  }

  #first() {
    return [...this.#due].sort(([, a], [, b]) => a - b)[0];
  }

  /** The slot to be started now. */
  take() {
    const [slot, due] = this.#first() ?? [];
    if (slot === undefined || due > performance.now()) return null;
    this.#due.delete(slot);
    return slot;
  }

  /** In how many milliseconds the next is to be started. */
  nextIn() {
    const first = this.#first();
    return first ? Math.max(0, first[1] - performance.now()) : null;
  }
}

module.exports = absence() ? { Backoff, HEALTHY: MOST, Restarts } : load();
