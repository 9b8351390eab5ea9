'use strict';

// The rolling reload: one worker after the other is replaced, the new one listening before the old one leaves.

const { describe } = require('./life.cjs');

// Of these an old worker's script gets the first that it handles.
const SIGNALS = ['SIGTERM', 'SIGINT'];

class Reload {
  #supervisor;
  #options;
  #output;
  #running = false;
  #again = false;

  constructor({ supervisor, options, output }) {
    this.#supervisor = supervisor;
    this.#options = options;
    this.#output = output;
  }

  /** Asked for during a reload, another follows it. */
  async request() {
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#running = true;
    do {
      this.#again = false;
      await this.#all();
    } while (this.#again && !this.#supervisor.stopping);
    this.#running = false;
  }

  async #all() {
    const slots = this.#supervisor.slots.filter((slot) => slot.final === null);
    this.#output.say(`reload: replacing ${slots.length} worker${slots.length === 1 ? '' : 's'}, one at a time`);
    for (const slot of slots) {
      if (this.#supervisor.stopping) return;
      const problem = await this.#one(slot);
      if (this.#supervisor.stopping) return;
      if (problem !== null) {
        this.#output.warn(`reload stopped: ${problem}`);
        return;
      }
    }
    this.#output.say('reload: done');
  }

  /** Replaces one; resolves with null, or with what was wrong. */
  async #one(slot) {
    if (slot.final !== null) return null;
    this.#supervisor.queue.cancel(slot.index);
    const old = slot.life;
    slot.next = this.#supervisor.born(slot);
    const fresh = slot.next;
    const problem = await this.#comesUp(fresh, old);
    if (this.#supervisor.stopping) return problem;
    slot.next = null;
    if (problem === null) {
      slot.life = fresh;
      slot.restarts += 1;
      this.#supervisor.addresses.changed();
      const was = old === null ? '' : `, was ${old.pid}`;
      this.#output.say(`reload: worker ${slot.index} is now pid ${fresh.pid}${was}`);
      if (old !== null) await this.#retire(old);
      return null;
    }
    if (fresh.ending === null) await this.#supervisor.retire(fresh, { deadline: 0 });
    if (this.#supervisor.stopping) return problem;
    if (slot.life !== null) return `${problem}; the old workers go on`;
    // There is no old worker, or it has ended by itself: then this was a start like any other.
    this.#supervisor.replace(slot, fresh, fresh.ending);
    return problem;
  }

  async #retire(old) {
    const code = await this.#supervisor.retire(old, { signals: SIGNALS });
    // A stop says it by its exit code.
    if (code === 0 || old.ending.signal !== null || this.#supervisor.stopping) return;
    this.#output.warn(`worker ${old.slot} (pid ${old.pid}) ${describe(old.ending)} when it was replaced`);
  }

  /**
   * Resolves with null as soon as `fresh` listens wherever `old` does; after the time for that, listening anywhere is
   * enough, because the new version may well listen elsewhere.
   */
  #comesUp(fresh, old) {
    const expected = [...old?.addresses ?? []];
    return new Promise((resolve) => {
      const settle = (problem) => {
        clearTimeout(timer);
        fresh.removeListener('listening', look);
        resolve(problem);
      };
      const look = () => {
        if (fresh.listens && expected.every((address) => fresh.addresses.has(address))) settle(null);
      };
      const timer = setTimeout(() => {
        const known = fresh.listens || (old !== null && expected.length === 0);
        settle(known ? null : `the new worker ${fresh.slot} (pid ${fresh.pid}) did not listen within ` +
          `${this.#options.listenTimeout / 1000} s`);
      }, this.#options.listenTimeout);
      fresh.on('listening', look);
      fresh.once('exit', (ending) => {
        settle(`the new worker ${fresh.slot} (pid ${fresh.pid}) ${describe(ending)} before it listened` +
          (fresh.bindError === null ? '' : ` (${fresh.bindError.text})`));
      });
    });
  }
}

module.exports = { Reload };
