'use strict';

// The graceful end of one worker. It gets no more connections. A script with a handler for the signal of the stop gets that, and ends
// by itself. Any other worker finishes the connections that it has; then it gets SIGTERM if it does not exit. At the deadline
// SIGTERM comes in any case, unless it has had it, and SIGKILL if it still does not go.

const { constants } = require('node:os');

/** How long a worker that has finished may take to exit by itself before it gets SIGTERM. */
const BY_ITSELF = 300;
/** From the deadline's SIGTERM to SIGKILL. */
const LAST_GRACE = 2000;
/** Many scripts end by sending one of these to themselves, or with the exit code that a shell has for it. */
const ENDS = ['SIGTERM', 'SIGINT', 'SIGHUP'];
const END_CODES = ENDS.map((signal) => 128 + constants.signals[signal]);
/** No deadline is shorter, so that a script with a handler of its own can say so. */
const FIRST_GRACE = 150;

class Stop {
  #life;
  #warn;
  #timers = [];
  #listened;
  #drained = false;
  #termed = false;
  #hurried = false;
  /** The signal that ended it before it had finished, if one had to. */
  cut = null;

  /**
   * `signals`: the script gets the first of them that it handles. `isForAll`: it may have got it from elsewhere.
   * `warn` is told when force is needed.
   */
  constructor(life, { deadline, signals = ['SIGTERM'], isForAll = false }, warn) {
    this.#life = life;
    this.#warn = warn;
    this.#listened = life.addresses.size > 0;
    this.done = life.exited().then((ending) => this.#ended(ending));
    if (life.ending !== null) return;
    if (life.connected) {
      life.once('disconnect', () => this.#finished());
      life.stop(signals, isForAll);
    } else {
      this.#finished();
    }
    // A deadline of 0 needs no message.
    this.#after(Math.max(deadline, FIRST_GRACE), () => {
      this.#late(deadline === 0 ? null : `did not finish within ${deadline / 1000} s`);
    });
    this.#after(deadline + LAST_GRACE, () => this.#kill());
  }

  /** The first call: the signal now, SIGKILL soon. The second: SIGKILL now. */
  hurry(signal) {
    if (this.#life.ending !== null) return;
    if (this.#hurried) {
      this.#kill();
      return;
    }
    this.#hurried = true;
    if (!this.#life.own) {
      this.#late('is hurried');
    } else {
      this.#warn(`${this.#name()} is hurried: ${signal}`);
      this.cut = signal;
      this.#life.relay([signal], true, true);
    }
    this.#after(LAST_GRACE, () => this.#kill());
  }

  #name() {
    return `worker ${this.#life.slot} (pid ${this.#life.pid})`;
  }

  #finished() {
    if (this.#life.own) return;
    this.#drained = true;
    this.#after(BY_ITSELF, () => this.#term());
  }

  #late(what) {
    const hasHadIt = this.#termed || this.#life.own === 'SIGTERM';
    if (!this.#drained && what !== null) {
      this.#warn(`${this.#name()} ${what}: ${hasHadIt ? `SIGKILL in ${LAST_GRACE / 1000} s` : 'SIGTERM'}`);
    }
    if (!hasHadIt) this.#term();
  }

  #term() {
    if (this.#termed) return;
    this.#termed = true;
    if (!this.#drained) this.cut = 'SIGTERM';
    this.#life.signal('SIGTERM');
  }

  #kill() {
    if (this.cut === 'SIGKILL') return;
    this.cut = 'SIGKILL';
    this.#warn(`${this.#name()} does not go: SIGKILL`);
    this.#life.signal('SIGKILL');
  }

  #after(ms, action) {
    this.#timers.push(setTimeout(action, ms));
  }

  /** 0, or 128 + the signal that cut it off, or the exit code of a script that failed to end itself. */
  #ended({ code, signal }) {
    this.#timers.forEach(clearTimeout);
    const { own } = this.#life;
    if (signal !== null) {
      const isFailure = signal === this.cut || (own && !ENDS.includes(signal));
      return isFailure ? 128 + constants.signals[signal] : 0;
    }
    // A quick one has ended before it could answer.
    const isOwn = own || (own === undefined && this.#listened);
    return isOwn && !END_CODES.includes(code) ? code : 0;
  }
}

module.exports = { Stop };
