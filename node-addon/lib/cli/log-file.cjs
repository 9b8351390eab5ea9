'use strict';

// A file to which lines are written at once. A disk that is full may have room again, so a failed write is no end: the next line tries
// again, and says first what was lost.

const fs = require('node:fs');
const { EventEmitter } = require('node:events');

const NEWLINE = 10;

function linesIn(data) {
  let count = 0;
  for (let at = data.indexOf(NEWLINE); at !== -1; at = data.indexOf(NEWLINE, at + 1)) count += 1;
  return count;
}

/** What Sink uses of a stream. */
class LogFile extends EventEmitter {
  #fd;
  #writeSync;
  #lost = 0;
  #why = '';
  /** Whether the file ends in the middle of a line. */
  #torn = false;

  /** `writeSync` is for tests. */
  constructor(fd, writeSync = fs.writeSync) {
    super();
    this.#fd = fd;
    this.#writeSync = writeSync;
  }

  /** Whole lines. Calls `done` afterwards, whatever came of it. */
  write(lines, done) {
    const data = Buffer.from(lines);
    const left = this.#mend() ? this.#put(data) : data;
    // A line that lacks only its end is none that is lost.
    this.#lost += linesIn(left) - (this.#torn && left.length < data.length && left[0] === NEWLINE ? 1 : 0);
    done?.();
    return true;
  }

  /** Ends the last line and tells what was lost. False while the file takes nothing. */
  #mend() {
    const count = `${this.#lost} line${this.#lost === 1 ? ' was' : 's were'}`;
    const text = `${this.#torn ? '\n' : ''}${this.#lost === 0 ? '' : `cluster-rs: ${count} lost here (${this.#why})\n`}`;
    if (this.#put(Buffer.from(text)).length > 0) return false;
    this.#lost = 0;
    return true;
  }

  /** What could not be written. */
  #put(data) {
    let at = 0;
    try {
      while (at < data.length) at += this.#writeSync(this.#fd, data, at, data.length - at);
    } catch (error) {
      this.#why = error.code;
    }
    if (at > 0) this.#torn = data[at - 1] !== NEWLINE;
    return data.subarray(at);
  }
}

module.exports = { LogFile };
