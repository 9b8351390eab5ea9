'use strict';

// Who listens where: one line for each address, as soon as all workers listen there.

const { ADDRESSES } = require('./binds.cjs');

class Addresses {
  #slots;
  #output;
  #patience;
  /** By address: whether its line has been printed. */
  #told = new Map();

  /** A line waits `patience` milliseconds at most for workers that do not listen on its address. */
  constructor(slots, output, patience) {
    this.#patience = patience;
    this.#slots = slots;
    this.#output = output;
  }

  heard(address) {
    if (!this.#told.has(address) && this.#hasRoom()) {
      this.#told.set(address, false);
      setTimeout(() => this.#tell((late) => late === address), this.#patience).unref();
    }
    this.changed();
  }

  /** Workers may make addresses up. Once there are many, those that nobody listens on are forgotten. */
  #hasRoom() {
    const most = ADDRESSES * this.#slots.all.length;
    if (this.#told.size >= most) {
      for (const address of this.#told.keys()) {
        if (!this.#slots.all.some((slot) => slot.life?.addresses.has(address))) this.#told.delete(address);
      }
    }
    return this.#told.size < most;
  }

  /** Prints what has become complete. Slots whose last worker has ended are not waited for. */
  changed() {
    const expected = this.#slots.wanted;
    this.#tell((address) => expected.every((slot) => slot.life?.addresses.has(address)));
  }

  #tell(ready) {
    for (const [address, told] of this.#told) {
      const pids = this.#slots.all.filter((slot) => slot.life?.addresses.has(address)).map((slot) => slot.life.pid);
      if (told || pids.length === 0 || !ready(address)) continue;
      this.#told.set(address, true);
      this.#output.say(`listening on ${address} (primary: pid ${process.pid}; ` +
        `${pids.length} worker${pids.length > 1 ? 's' : ''}: pid${pids.length > 1 ? 's' : ''} ${pids.join(' ')})`);
    }
  }
}

module.exports = { Addresses };
