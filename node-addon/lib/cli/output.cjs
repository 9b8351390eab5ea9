'use strict';

// All that is printed: what cluster-rs itself says, and the workers' lines.

const { Pump, prefixOf } = require('./lines.cjs');
const { sinks } = require('./sink.cjs');

class Output {
  #pumps = new Set();

  constructor() {
    [this.out, this.err] = sinks();
  }

  /** What somebody may want to know. */
  say(text) {
    this.out.write(`cluster-rs: ${text}\n`);
  }

  /** What went wrong. */
  warn(text) {
    this.err.write(`cluster-rs: ${text}\n`);
  }

  /** Passes a worker's two streams on. */
  attach(child, slot, slots) {
    for (const [source, sink] of [[child.stdout, this.out], [child.stderr, this.err]]) {
      if (!source) continue;
      const pump = new Pump(source, sink, prefixOf(slot, slots, sink.colours));
      this.#pumps.add(pump);
      pump.closed.then(() => this.#pumps.delete(pump));
    }
  }

  /** Once all workers are dead: resolves when everything they wrote has been written. */
  async finished() {
    await Promise.all([...this.#pumps].map((pump) => pump.finished()));
    await Promise.all([this.out.flushed(), this.err.flushed()]);
  }
}

module.exports = { Output };
