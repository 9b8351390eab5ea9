'use strict';

// The delay before a slot's next start. The same rule stands in core/src/restart.rs.

const LEAST = 100;
const MOST = 10_000;
/** A worker that lived this long, in milliseconds, starts the count afresh. */
const HEALTHY = 10_000;

class Backoff {
  #shortLives = 0;

  /** `jitter` in 0..1 lengthens the delay by up to a quarter, so that workers that fail together come back apart. */
  next(lived, jitter = Math.random()) {
    if (lived >= HEALTHY) this.#shortLives = 0;
    const doubled = LEAST * 2 ** this.#shortLives;
    this.#shortLives += 1;
    return Math.min(doubled * (1 + 0.25 * jitter), MOST);
  }
}

module.exports = { Backoff, HEALTHY };
