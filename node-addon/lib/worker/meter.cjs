'use strict';

// The load of a worker whose program reports none: its open connections, plus the mean lateness of its event loop in milliseconds,
// which is what a connection has to wait there. It is reported with each new connection and, while there are any, at short
// intervals.

// Between two looks, in milliseconds: at first, and the longest while nothing changes.
const SOON = 20;
const LATER = 320;
// Lateness below this is a timer's own, in milliseconds.
const PUNCTUAL = 2;
// The weight of the newest look in the mean. A single long turn is over when it is seen and says little about the next one.
const NEWEST = 1 / 8;

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
    this.#late += ((late < PUNCTUAL ? 0 : late) - this.#late) * NEWEST;
    if (this.#late < 0.5) this.#late = 0;
    const changed = this.#measure();
    this.#timer = null;
    if (this.#load === 0) return;
    this.#interval = changed || this.#late > 0 ? SOON : Math.min(this.#interval * 2, LATER);
    this.#lookLater();
  }
}

module.exports = { Meter };
