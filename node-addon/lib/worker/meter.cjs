'use strict';

// The load of a worker whose program tells none: its open connections, and the milliseconds by which its event loop is late.
// So a connection counts 1, and a worker whose handlers hold the loop for 20 ms at a time as much as one with 20 more
// connections. It is told with each new connection, and while there are any, or were just now, at short intervals.

// Between two looks, in milliseconds: at first, and the longest while nothing changes.
const SOON = 20;
const LATER = 320;
// Lateness below this is a timer's own.
const PUNCTUAL = 2;

class Meter {
  #tell;
  #servers;
  #load = 0;
  #late = 0;
  #interval = SOON;
  #due = 0;
  #timer = null;
  #ended = false;

  /** `tell(load)` tells it; `servers()` gives the net.Servers whose connections count. */
  constructor(tell, servers) {
    this.#tell = tell;
    this.#servers = servers;
  }

  /** There is one connection more. */
  connected() {
    if (this.#ended) return;
    this.#measure();
    if (this.#timer && this.#interval === SOON) return;
    this.#interval = SOON;
    this.#lookLater();
  }

  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  #measure() {
    let connections = 0;
    for (const server of this.#servers()) connections += server?._connections ?? 0;
    const before = this.#load;
    this.#load = connections + Math.round(this.#late);
    this.#tell(this.#load);
    return this.#load !== before;
  }

  #lookLater() {
    clearTimeout(this.#timer);
    this.#due = performance.now() + this.#interval;
    this.#timer = setTimeout(() => this.#look(), this.#interval).unref();
  }

  #look() {
    const late = performance.now() - this.#due;
    // What was is forgotten by half with each look, so that one long turn is still seen by who looks a little later.
    this.#late = Math.max(late < PUNCTUAL ? 0 : late, this.#late / 2);
    if (this.#late < 1) this.#late = 0;
    const changed = this.#measure();
    this.#timer = null;
    if (this.#load === 0) return;
    this.#interval = changed ? SOON : Math.min(this.#interval * 2, LATER);
    this.#lookLater();
  }
}

module.exports = { Meter };
