'use strict';

// Where there is no addon: workers are started, and started again with growing delays. What replaces workers that run is the engine's.

const LEAST = 100;
const MOST = 10_000;

class StockFleet {
  #cluster;
  #supervisor;
  #begun = 0;
  /** By slot: the delay of its next start, and what waits for it. */
  #delays = new Map();
  #timers = new Map();

  /** `supervisor`: see primary/fleet.cjs. */
  constructor(cluster, supervisor) {
    this.#cluster = cluster;
    this.#supervisor = supervisor;
  }

  /** So many workers, which are not fewer than before. */
  scale(count) {
    while (this.#begun < count) this.#start(this.#begun++);
  }

  #start(slot) {
    const failed = (error) => this.#supervisor.notMade({ slot, beside: false }, error, this.#startLater(slot, 0, 0));
    try {
      const { settings, env } = this.#supervisor.recipe(slot, 1);
      this.#cluster.setupPrimary(settings);
      const worker = this.#cluster.fork(env);
      if (worker.process.pid === undefined) {
        worker.once('error', failed);
        return;
      }
      const begun = performance.now();
      worker.process.prependOnceListener('exit', (code, signal) => {
        const least = this.#supervisor.ends(worker, code, signal);
        if (least === undefined) return;
        this.#supervisor.follows(worker, this.#startLater(slot, performance.now() - begun, least));
      });
      this.#supervisor.born(worker, { id: worker.id, slot, generation: 1, beside: false });
    } catch (error) {
      failed(error);
    }
  }

  /** Returns in how many milliseconds. */
  #startLater(slot, lived, least) {
    const delay = lived >= MOST ? LEAST : this.#delays.get(slot) ?? LEAST;
    this.#delays.set(slot, Math.min(MOST, delay * 2));
    const wait = Math.max(least, delay);
    this.#timers.set(slot, setTimeout(() => this.#start(slot), wait));
    return wait;
  }

  /** Nobody is started any more. */
  stop() {
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }
}

module.exports = { StockFleet };
