'use strict';

// Which file the workers of each generation run, where the script's path leads through a link: that to which it led at the start, or at
// the reload. So a crash brings no other release, and there is something to go back to.

const fs = require('node:fs');

/** More are forgotten; who was made by one of them gets what the path leads to now. */
const GENERATIONS = 16;

function realOf(file) {
  try {
    return fs.realpathSync(file);
  } catch {
    return undefined;
  }
}

class Releases {
  #script;
  #files = new Map();
  #inForce = 1;

  constructor(script) {
    this.#script = script;
    this.fileOf(1);
  }

  /** What a worker of this generation runs: the script, unless that leads elsewhere by now and what it led to is still there. */
  fileOf(generation) {
    if (!this.#files.has(generation)) this.#files.set(generation, realOf(this.#script));
    for (const known of this.#files.keys()) {
      if (this.#files.size > GENERATIONS && known !== this.#inForce) this.#files.delete(known);
    }
    const file = this.#files.get(generation);
    return file === realOf(this.#script) || !isThere(file) ? this.#script : file;
  }

  /** Whether the old workers' program is still there once the path leads to another. What was overwritten is gone. */
  get canGoBack() {
    return this.fileOf(this.#inForce) !== this.#script;
  }

  /** All workers are of this generation. */
  done(generation) {
    this.#inForce = generation;
  }
}

function isThere(file) {
  return file !== undefined && fs.existsSync(file);
}

module.exports = { Releases };
