'use strict';

// The load that this worker reports: the program's by cluster.worker.setLoad, or a measured one; see meter.cjs.

const MOST = 2 ** 32 - 1;

function check(load) {
  if (typeof load !== 'number') {
    const error = new TypeError(`The "load" argument must be of type number. Received ${load === null ? 'null' : typeof load}`);
    throw Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
  }
  if (!Number.isInteger(load) || load < 0 || load > MOST) {
    const error = new RangeError(`The value of "load" is out of range. It must be an integer from 0 to ${MOST}. Received ${load}`);
    throw Object.assign(error, { code: 'ERR_OUT_OF_RANGE' });
  }
}

class Burden {
  #tell;
  #meter;
  #isOwn = false;

  /** `tell(load)` tells the primary. */
  constructor(worker, tell) {
    this.#tell = tell;
    worker.setLoad = (load) => {
      check(load);
      this.#isOwn = true;
      this.#meter?.end();
      tell(load);
    };
  }

  /** The primary wants a load: it is measured unless the program reports one. */
  measure(servers) {
    if (this.#isOwn || this.#meter) return;
    const { Meter } = require('./meter.cjs');
    this.#meter = new Meter(this.#tell, servers);
  }

  connected() {
    this.#meter?.connected();
  }
}

module.exports = { Burden };
