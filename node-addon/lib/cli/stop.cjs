'use strict';

// The graceful end of one worker. It takes no more connections and finishes those that it has. Then it gets SIGTERM, so that its
// own handler runs, and SIGKILL if it still does not go.

const { constants } = require('node:os');

/** How long a worker that has finished may take to exit by itself before it gets SIGTERM. */
const BY_ITSELF = 300;
/** From the deadline's SIGTERM to SIGKILL. */
const LAST_GRACE = 2000;

class Stop {
  #life;
  #warn;
  #timers = [];
  #drained = false;
  #termed = false;
  #hurried = false;
  /** The signal that ended it before it had finished, if one had to. */
  cut = null;

  /** `warn` is told when force is needed. */
  constructor(life, deadline, warn) {
    this.#life = life;
    this.#warn = warn;
    this.done = life.exited().then((ending) => this.#ended(ending));
    if (life.ending !== null) return;
    if (life.connected) {
      life.once('disconnect', () => this.#finished());
      life.disconnect();
    } else {
      this.#finished();
    }
    // A deadline of 0 needs no message.
    this.#after(deadline, () => {
      this.#late(deadline === 0 ? null : `did not finish within ${deadline / 1000} s`);
    });
    this.#after(deadline + LAST_GRACE, () => this.#kill());
  }

  /** The first call: SIGTERM now, SIGKILL soon. The second: SIGKILL now. */
  hurry() {
    if (this.#life.ending !== null) return;
    if (this.#hurried) {
      this.#kill();
      return;
    }
    this.#hurried = true;
    this.#late('is hurried');
    this.#after(LAST_GRACE, () => this.#kill());
  }

  #finished() {
    this.#drained = true;
    this.#after(BY_ITSELF, () => this.#term());
  }

  #late(what) {
    if (!this.#drained && what !== null) {
      this.#warn(`worker ${this.#life.slot} (pid ${this.#life.pid}) ${what}: SIGTERM`);
    }
    this.#term();
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
    this.#warn(`worker ${this.#life.slot} (pid ${this.#life.pid}) does not go: SIGKILL`);
    this.#life.signal('SIGKILL');
  }

  #after(ms, action) {
    this.#timers.push(setTimeout(action, ms));
  }

  /** 0, or 128 + the signal that cut it off. */
  #ended({ signal }) {
    this.#timers.forEach(clearTimeout);
    return this.cut !== null && signal !== null && signal === this.cut ? 128 + constants.signals[signal] : 0;
  }
}

module.exports = { Stop };
